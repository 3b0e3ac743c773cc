//! The expansion obeys the lints that its user turns on, and the attributes that describe a function stay on it.
#![deny(warnings, missing_docs, unreachable_pub, unused, rust_2018_idioms)]
#![deny(
    single_use_lifetimes,
    trivial_casts,
    unused_qualifications,
    elided_lifetimes_in_paths
)]
#![deny(non_ascii_idents, missing_debug_implementations, unsafe_code)]

use axum::Router;
use axum::extract::Path;
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};

/// Creates an order.
///
/// With *several* lines.
#[idempotent(scope = id)]
#[must_use]
pub async fn create(Path(id): Path<u64>, body: String) -> String {
    format!("{id} {body}")
}

/// Not any more.
#[idempotent]
#[deprecated = "use `create`"]
pub async fn create_old(body: String) -> String {
    body
}

#[idempotent]
#[expect(unused_variables, reason = "to be written")]
async fn stub(body: String) {
    let later = 1;
}

#[idempotent]
#[cfg(all())]
async fn conditional() {}

#[idempotent]
#[cfg(any())]
async fn never() {
    does_not_compile()
}

#[idempotent]
#[allow(non_snake_case)]
async fn odd_NAME() {}

#[cfg_attr(all(), allow(dead_code))]
#[idempotent]
async fn unused() {}

fn main() {
    #[allow(deprecated)]
    let _: Router<Idempotency> = Router::new()
        .route("/1/{id}", post(create))
        .route("/2", post(create_old))
        .route("/3", post(stub))
        .route("/4", post(conditional))
        .route("/5", post(odd_NAME));
}
