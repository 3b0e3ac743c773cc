//! The error is at the return type.

use idempotent_runtime::{Idempotency, idempotent};

#[idempotent(name = "settle", key = order)]
async fn settle(idempotency: &Idempotency, order: u64) -> u64 {
    order
}

fn main() {}
