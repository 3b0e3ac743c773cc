//! An argument that the runtime would have to supply.

use axum::Router;
use axum::http::Method;
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};

#[idempotent]
async fn create_order(#[tx] transaction: Method, body: String) -> String {
    drop(transaction);
    body
}

fn main() {
    let _: Router<Idempotency> = Router::new().route("/orders", post(create_order));
}
