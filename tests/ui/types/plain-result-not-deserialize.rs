//! The error is at the return type.

use idempotent_runtime::{Idempotency, ExecuteError, idempotent};

#[derive(serde::Serialize)]
struct Receipt;

#[idempotent(name = "settle", key = order)]
async fn settle(idempotency: &Idempotency, order: u64) -> Result<Receipt, ExecuteError> {
    drop(order);
    Ok(Receipt)
}

fn main() {}
