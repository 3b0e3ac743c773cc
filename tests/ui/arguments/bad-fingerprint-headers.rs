//! A header name with a space in it, one without quotes, and one that is listed twice.

use axum::Router;
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};

#[idempotent(fingerprint_headers = ["x-api-version", "x api", accept, "X-Api-Version"])]
async fn create_order(body: String) -> String {
    body
}

fn main() {
    let _: Router<Idempotency> = Router::new().route("/orders", post(create_order));
}
