//! The error is at the argument's type, and says how to leave it out.

use idempotent_runtime::{Idempotency, ExecuteError, idempotent};

struct Provider;

#[idempotent(name = "settle", key = order)]
async fn settle(
    idempotency: &Idempotency,
    provider: Provider,
    order: u64,
) -> Result<u64, ExecuteError> {
    let Provider = provider;
    Ok(order)
}

fn main() {}
