//! A word that `on_abandoned` does not know.

use axum::Router;
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};

#[idempotent(on_abandoned = "ignore")]
async fn create_order(body: String) -> String {
    body
}

fn main() {
    let _: Router<Idempotency> = Router::new().route("/orders", post(create_order));
}
