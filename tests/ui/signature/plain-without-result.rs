//! A function without HTTP that returns nothing.

use idempotent_runtime::{Idempotency, idempotent};

#[idempotent(name = "settle", key = order)]
async fn settle(idempotency: &Idempotency, order: u64) {
    drop(order);
}

fn main() {}
