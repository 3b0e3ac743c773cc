//! An argument that is there or not.

use idempotent_runtime::{Idempotency, ExecuteError, idempotent};

#[idempotent(name = "settle", key = order)]
async fn settle(
    idempotency: &Idempotency,
    #[cfg(all())] order: u64,
) -> Result<u64, ExecuteError> {
    Ok(order)
}

fn main() {}
