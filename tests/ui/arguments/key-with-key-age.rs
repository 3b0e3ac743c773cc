//! The age of a key that the application makes is not known.

use axum::Router;
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};

#[idempotent(key = body, key_age = "ttl")]
async fn create_order(body: String) -> String {
    body
}

fn main() {
    let _: Router<Idempotency> = Router::new().route("/orders", post(create_order));
}
