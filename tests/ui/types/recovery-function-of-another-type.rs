//! The error is at the path.

use axum::Router;
use axum::routing::post;
use idempotent_runtime::{Idempotency, Recovery, idempotent};

async fn recover(_attempt: u32) -> Recovery {
    Recovery::Retry
}

#[idempotent(on_abandoned = recover)]
async fn create_order(body: String) -> String {
    body
}

fn main() {
    let _: Router<Idempotency> = Router::new().route("/orders", post(create_order));
}
