//! A key that need not be, where there always is one.

use idempotent_runtime::{Idempotency, NoResult, idempotent};

#[idempotent(name = "settle", key = order, required = false)]
async fn settle(idempotency: &Idempotency, order: u64) -> Result<u64, NoResult> {
    Ok(order)
}

fn main() {}
