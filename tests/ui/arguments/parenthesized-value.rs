//! A value in parentheses instead of after an equals sign.

use axum::Router;
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};

#[idempotent(ttl_hours(24))]
async fn create_order(body: String) -> String {
    body
}

fn main() {
    let _: Router<Idempotency> = Router::new().route("/orders", post(create_order));
}
