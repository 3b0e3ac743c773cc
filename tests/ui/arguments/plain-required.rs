//! A key that need not be, where there always is one.

use idempotent_runtime::{Idempotency, ExecuteError, idempotent};

#[idempotent(name = "settle", key = order, required = false)]
async fn settle(idempotency: &Idempotency, order: u64) -> Result<u64, ExecuteError> {
    Ok(order)
}

fn main() {}
