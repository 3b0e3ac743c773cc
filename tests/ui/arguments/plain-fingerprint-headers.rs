//! Headers, where there is no request.

use idempotent_runtime::{Idempotency, ExecuteError, idempotent};

#[idempotent(name = "settle", key = order, fingerprint_headers = ["x-api-version"])]
async fn settle(idempotency: &Idempotency, order: u64) -> Result<u64, ExecuteError> {
    Ok(order)
}

fn main() {}
