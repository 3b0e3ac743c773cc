//! An argument that only a handler can be given.

use idempotent_runtime::{Idempotency, NoResult, idempotent};

#[idempotent(name = "settle", key = order)]
async fn settle(
    idempotency: &Idempotency,
    #[tx] transaction: u8,
    order: u64,
) -> Result<u64, NoResult> {
    Ok(order + u64::from(transaction))
}

fn main() {}
