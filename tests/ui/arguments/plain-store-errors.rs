//! Errors to be stored, where none is.

use idempotent_runtime::{Idempotency, NoResult, idempotent};

#[idempotent(name = "settle", key = order, store_errors = "all")]
async fn settle(idempotency: &Idempotency, order: u64) -> Result<u64, NoResult> {
    Ok(order)
}

fn main() {}
