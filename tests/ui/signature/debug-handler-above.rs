//! axum's check calls the function with the arguments as they are written: it has to be below.

use idempotent_runtime::idempotent;

/// Creates an order.
#[axum::debug_handler(state = idempotent_runtime::Idempotency)]
// A comment between the two.
#[idempotent]
async fn create_order(body: String) -> String {
    body
}

fn main() {}
