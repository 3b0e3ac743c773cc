//! A handler that has conditions axum does not know of.

use idempotent_runtime::idempotent;

#[idempotent]
pub async unsafe fn create_order(body: String) -> String {
    body
}

fn main() {}
