//! The error is at the return type.

use axum::Router;
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};

struct Order;

#[idempotent]
async fn create_order(body: String) -> Result<Order, String> {
    if body.is_empty() {
        Err(body)
    } else {
        Ok(Order)
    }
}

fn main() {
    let _: Router<Idempotency> = Router::new().route("/orders", post(create_order));
}
