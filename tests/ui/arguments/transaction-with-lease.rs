//! A transaction has neither.

use idempotent_runtime::idempotent;

struct Connection;

#[idempotent(lease = "10s", on_abandoned = "retry")]
async fn create_order(#[tx] _tx: &mut Connection) -> String {
    String::new()
}

fn main() {}
