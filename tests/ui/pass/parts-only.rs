//! No argument reads the body: the last one is an extractor of the request's parts.
#![deny(warnings)]

use std::collections::HashMap;

use axum::Router;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};

#[idempotent]
async fn one(method: Method) -> String {
    method.to_string()
}

#[idempotent]
async fn two(Path(id): Path<u32>, Query(query): Query<HashMap<String, String>>) -> String {
    format!("{id} {}", query.len())
}

#[idempotent]
async fn many(
    State(_idempotency): State<Idempotency>,
    uri: Uri,
    headers: HeaderMap,
    Extension(tenant): Extension<u64>,
) -> String {
    format!("{uri} {} {tenant}", headers.len())
}

fn main() {
    let _: Router<Idempotency> = Router::new()
        .route("/1", post(one))
        .route("/2/{id}", post(two))
        .route("/3", post(many));
}
