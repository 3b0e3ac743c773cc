//! A function without HTTP that is not async.

use idempotent_runtime::{Idempotency, NoResult, idempotent};

#[idempotent(name = "settle", key = order)]
fn settle(idempotency: &Idempotency, order: u64) -> Result<u64, NoResult> {
    Ok(order)
}

fn main() {}
