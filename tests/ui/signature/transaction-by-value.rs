//! Who owns a connection could commit early.

use idempotent_runtime::idempotent;

struct Connection;

#[idempotent]
async fn create_order(#[tx] tx: Connection, body: String) -> String {
    drop(tx);
    body
}

fn main() {}
