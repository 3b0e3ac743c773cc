//! A handler with another calling convention.

use idempotent_runtime::idempotent;

#[idempotent]
pub async extern "C" fn create_order(body: String) -> String {
    body
}

fn main() {}
