//! A fingerprint of the body, where there is no body.

use idempotent_runtime::{Idempotency, ExecuteError, idempotent};

#[idempotent(name = "settle", key = order, fingerprint = body)]
async fn settle(idempotency: &Idempotency, order: u64) -> Result<u64, ExecuteError> {
    Ok(order)
}

fn main() {}
