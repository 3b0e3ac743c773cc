//! A handle that lives for ever.

use idempotent_runtime::{Idempotency, NoResult, idempotent};

#[idempotent(name = "settle", key = order)]
async fn settle(idempotency: &'static Idempotency, order: u64) -> Result<u64, NoResult> {
    Ok(order)
}

fn main() {}
