//! An argument of the caller's, which may be gone.

use idempotent_runtime::{Idempotency, ExecuteError, idempotent};

#[idempotent(name = "settle", key = order)]
async fn settle(idempotency: &Idempotency, order: &str) -> Result<String, ExecuteError> {
    Ok(order.to_owned())
}

fn main() {}
