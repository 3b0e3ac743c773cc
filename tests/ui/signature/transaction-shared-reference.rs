//! Nothing can be written through it.

use idempotent_runtime::idempotent;

struct Connection;

#[idempotent]
async fn create_order(#[tx] _tx: &Connection, body: String) -> String {
    body
}

fn main() {}
