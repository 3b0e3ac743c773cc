//! The attribute knows the handle by its name, and this one has another.

use idempotent_runtime::{Idempotency, ExecuteError, idempotent};

type Handle = Idempotency;

#[idempotent(name = "settle", key = order)]
async fn settle(handle: &Handle, order: u64) -> Result<u64, ExecuteError> {
    Ok(order.max(handle.pending() as u64))
}

fn main() {}
