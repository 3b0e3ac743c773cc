//! A function without HTTP that has no key.

use idempotent_runtime::{Idempotency, ExecuteError, idempotent};

#[idempotent(name = "settle", ttl_hours = 24)]
async fn settle(idempotency: &Idempotency, order: u64) -> Result<u64, ExecuteError> {
    Ok(order)
}

fn main() {}
