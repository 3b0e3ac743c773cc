//! There is no such argument, nor one with a similar name.

use axum::Router;
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};

#[idempotent(encryption = "aes")]
async fn create_order(body: String) -> String {
    body
}

fn main() {
    let _: Router<Idempotency> = Router::new().route("/orders", post(create_order));
}
