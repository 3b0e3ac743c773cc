//! The error is at the return type, and says what to add.

use idempotent_runtime::{Idempotency, idempotent};

struct Unreachable;

#[idempotent(name = "settle", key = order)]
async fn settle(idempotency: &Idempotency, order: u64) -> Result<u64, Unreachable> {
    match order {
        0 => Err(Unreachable),
        order => Ok(order),
    }
}

fn main() {}
