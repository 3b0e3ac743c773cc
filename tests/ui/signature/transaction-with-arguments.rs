//! The type says it all.

use idempotent_runtime::idempotent;

struct Connection;

#[idempotent]
async fn create_order(#[tx(serializable)] _tx: &mut Connection) -> String {
    String::new()
}

fn main() {}
