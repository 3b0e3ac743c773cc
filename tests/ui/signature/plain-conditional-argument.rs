//! An argument that is there or not.

use idempotent_runtime::{Idempotency, NoResult, idempotent};

#[idempotent(name = "settle", key = order)]
async fn settle(
    idempotency: &Idempotency,
    #[cfg(all())] order: u64,
) -> Result<u64, NoResult> {
    Ok(order)
}

fn main() {}
