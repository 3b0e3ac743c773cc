//! Two transactions cannot be committed at once.

use idempotent_runtime::idempotent;

struct Connection;

#[idempotent]
async fn create_order(#[tx] _a: &mut Connection, #[tx] _b: &mut Connection) -> String {
    String::new()
}

fn main() {}
