//! The attribute knows the handle by its name, and this one has another.

use idempotent_runtime::{Idempotency, NoResult, idempotent};

type Handle = Idempotency;

#[idempotent(name = "settle", key = order)]
async fn settle(handle: &Handle, order: u64) -> Result<u64, NoResult> {
    Ok(order.max(handle.pending() as u64))
}

fn main() {}
