//! A `const fn`.

use idempotent_runtime::idempotent;

#[idempotent]
pub const fn create_order(body: String) -> String {
    body
}

fn main() {}
