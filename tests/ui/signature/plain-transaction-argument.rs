//! An argument that only a handler can be given.

use idempotent_runtime::{Idempotency, ExecuteError, idempotent};

#[idempotent(name = "settle", key = order)]
async fn settle(
    idempotency: &Idempotency,
    #[tx] transaction: u8,
    order: u64,
) -> Result<u64, ExecuteError> {
    Ok(order + u64::from(transaction))
}

fn main() {}
