//! A function without HTTP, under a name that another module may have too.

use idempotent_runtime::{Idempotency, NoResult, idempotent};

#[idempotent(key = order)]
async fn settle(idempotency: &Idempotency, order: u64) -> Result<u64, NoResult> {
    Ok(order)
}

fn main() {}
