//! A function without HTTP that has no key.

use idempotent_runtime::{Idempotency, NoResult, idempotent};

#[idempotent(name = "settle", ttl_hours = 24)]
async fn settle(idempotency: &Idempotency, order: u64) -> Result<u64, NoResult> {
    Ok(order)
}

fn main() {}
