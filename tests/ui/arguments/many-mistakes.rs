//! Every mistake is reported in one compile, those of the signature too, and nothing but the mistakes.

use axum::Router;
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};

#[idempotent(
    ttl_hour = 24,
    ttl_hours = 0,
    ttl_hours = 48,
    lease,
    header = "Idempotency Key",
    scope = (user id),
    key = "id",
    in_flight = "queue",
    replay_errors = all,
    max_response_bytes = -1
)]
fn create_order(#[tx] body: String) -> String {
    body
}

fn main() {
    let _: Router<Idempotency> = Router::new().route("/orders", post(create_order));
}
