//! Every kind of answer that axum knows.
#![deny(warnings)]

use std::convert::Infallible;

use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response, Result as AnyResult};
use axum::routing::post;
use axum::{Json, Router};
use idempotent_runtime::{Idempotency, idempotent};

struct OrderError;

impl IntoResponse for OrderError {
    fn into_response(self) -> Response {
        StatusCode::CONFLICT.into_response()
    }
}

impl From<std::num::ParseIntError> for OrderError {
    fn from(_: std::num::ParseIntError) -> Self {
        Self
    }
}

#[idempotent]
async fn nothing() {}

#[idempotent]
async fn unit() -> () {}

#[idempotent]
async fn text() -> &'static str {
    "done"
}

#[idempotent]
async fn tuple() -> (
    StatusCode,
    [(axum::http::HeaderName, &'static str); 1],
    Json<u32>,
) {
    (StatusCode::CREATED, [(LOCATION, "/orders/1")], Json(1))
}

#[idempotent]
async fn opaque() -> impl IntoResponse {
    (StatusCode::ACCEPTED, "later")
}

#[idempotent]
async fn fallible(body: String) -> Result<Json<u32>, OrderError> {
    Ok(Json(body.parse()?))
}

#[idempotent]
async fn opaque_and_fallible(body: String) -> Result<impl IntoResponse, OrderError> {
    let quantity: u32 = body.parse()?;
    Ok((StatusCode::CREATED, Json(quantity)))
}

#[idempotent]
async fn any_error(body: String) -> AnyResult<String> {
    if body.is_empty() {
        return Err((StatusCode::BAD_REQUEST, "empty").into());
    }
    Ok(body)
}

#[idempotent]
async fn response() -> Response {
    StatusCode::OK.into_response()
}

#[idempotent]
async fn never_fails() -> Result<String, Infallible> {
    Ok(String::new())
}

fn main() {
    let _: Router<Idempotency> = Router::new()
        .route("/1", post(nothing))
        .route("/2", post(unit))
        .route("/3", post(text))
        .route("/4", post(tuple))
        .route("/5", post(opaque))
        .route("/6", post(fallible))
        .route("/7", post(opaque_and_fallible))
        .route("/8", post(any_error))
        .route("/9", post(response))
        .route("/10", post(never_fails));
}
