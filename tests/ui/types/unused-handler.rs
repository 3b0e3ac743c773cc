//! A handler that no router has is reported as any unused function is, once, at its name.
#![deny(dead_code)]

use idempotent_runtime::idempotent;

#[idempotent]
async fn create_order(body: String) -> String {
    body
}

fn main() {}
