//! Something that no store lends.

use idempotent_runtime::idempotent;

#[idempotent]
async fn create_order(#[tx] _tx: &mut String) -> String {
    String::new()
}

fn main() {}
