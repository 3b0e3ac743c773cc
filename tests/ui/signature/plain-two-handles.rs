//! Two handles.

use idempotent_runtime::{Idempotency, NoResult, idempotent};

#[idempotent(name = "settle", key = order)]
async fn settle(
    idempotency: &Idempotency,
    order: u64,
    other: &Idempotency,
) -> Result<u64, NoResult> {
    Ok(order)
}

fn main() {}
