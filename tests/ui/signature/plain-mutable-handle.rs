//! A handle to be changed.

use idempotent_runtime::{Idempotency, NoResult, idempotent};

#[idempotent(name = "settle", key = order)]
async fn settle(idempotency: &mut Idempotency, order: u64) -> Result<u64, NoResult> {
    Ok(order)
}

fn main() {}
