//! Two handles.

use idempotent_runtime::{Idempotency, ExecuteError, idempotent};

#[idempotent(name = "settle", key = order)]
async fn settle(
    idempotency: &Idempotency,
    order: u64,
    other: &Idempotency,
) -> Result<u64, ExecuteError> {
    Ok(order)
}

fn main() {}
