//! An argument that is not always there.

use axum::Router;
use axum::http::Method;
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};

#[idempotent]
async fn create_order(#[cfg(all())] method: Method, body: String) -> String {
    drop(method);
    body
}

fn main() {
    let _: Router<Idempotency> = Router::new().route("/orders", post(create_order));
}
