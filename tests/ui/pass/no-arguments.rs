//! A handler that takes nothing.
#![deny(warnings)]

use axum::Router;
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};

#[idempotent]
async fn with_nothing() {}

#[idempotent()]
async fn with_parentheses() -> &'static str {
    "done"
}

#[idempotent(ttl_hours = 1)]
async fn with_a_setting() {}

fn main() {
    let _: Router<Idempotency> = Router::new()
        .route("/1", post(with_nothing))
        .route("/2", post(with_parentheses))
        .route("/3", post(with_a_setting));
}
