//! A function without HTTP, under a name that another module may have too.

use idempotent_runtime::{Idempotency, ExecuteError, idempotent};

#[idempotent(key = order)]
async fn settle(idempotency: &Idempotency, order: u64) -> Result<u64, ExecuteError> {
    Ok(order)
}

fn main() {}
