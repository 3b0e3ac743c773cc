//! The error is at the return type.

use idempotent_runtime::{Idempotency, NoResult, idempotent};

#[derive(serde::Serialize)]
struct Receipt;

#[idempotent(name = "settle", key = order)]
async fn settle(idempotency: &Idempotency, order: u64) -> Result<Receipt, NoResult> {
    drop(order);
    Ok(Receipt)
}

fn main() {}
