//! Every argument, each in all of its forms.
#![deny(warnings)]

use axum::Router;
use axum::routing::post;
use idempotent_runtime::{Abandoned, Idempotency, Recovery, idempotent};

mod api {
    pub(crate) mod parts {
        pub(crate) use idempotent_runtime as idempotency;
    }
}

async fn ask(abandoned: Abandoned) -> Recovery {
    drop(abandoned);
    Recovery::Unknown
}

#[idempotent(
    ttl_hours = 48,
    header = "X-Request-Id",
    required = false,
    scope = body.len(),
    label = body.len(),
    fingerprint = json,
    fingerprint_headers = ["x-api-version", "Accept-Language"],
    lease = "10s",
    in_flight = "wait",
    wait = "500ms",
    on_abandoned = ask,
    replay_errors = "4xx",
    max_response_bytes = 65_536,
    name = "orders.create",
    crate = api::parts::idempotency,
)]
async fn all(body: String) -> String {
    body
}

#[idempotent(ttl_minutes = 90, key = &body, fingerprint = body, in_flight = "reject", on_abandoned = "reject")]
async fn second(body: String) -> String {
    body
}

#[idempotent(ttl_secs = 20, fingerprint = (body.len(), &body), on_abandoned = "retry", replay_errors = "none")]
async fn third(body: String) -> String {
    body
}

#[idempotent(ttl = "7d", replay_errors = "all", max_response_bytes = 0, on_abandoned = self::ask)]
async fn fourth(body: String) -> String {
    body
}

#[idempotent(lease = "24h", ttl = "1440m", required = true)]
async fn fifth(body: String) -> String {
    body
}

fn main() {
    let _: Router<Idempotency> = Router::new()
        .route("/1", post(all))
        .route("/2", post(second))
        .route("/3", post(third))
        .route("/4", post(fourth))
        .route("/5", post(fifth));
}
