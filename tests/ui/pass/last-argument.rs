//! Whatever axum takes as the last argument can be the last argument.
#![deny(warnings)]

use std::collections::HashMap;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, Form, Json, Multipart, Path, Query, Request, State};
use axum::http::HeaderMap;
use axum::routing::post;
use axum::{Router, extract};
use idempotent_runtime::{Idempotency, idempotent};

type Fields = HashMap<String, String>;

#[idempotent]
async fn path(_: Path<u32>) {}
#[idempotent]
async fn query(_: Query<Fields>) {}
#[idempotent]
async fn extension(_: Extension<u32>) {}
#[idempotent]
async fn state(_: State<Idempotency>) {}
#[idempotent]
async fn headers(_: HeaderMap) {}
#[idempotent]
async fn json(_: Json<Fields>) {}
#[idempotent]
async fn form(_: Form<Fields>) {}
#[idempotent]
async fn bytes(_: Bytes) {}
#[idempotent]
async fn string(_: String) {}
#[idempotent]
async fn multipart(_: Multipart) {}
#[idempotent]
async fn request(_: Request) {}
#[idempotent]
async fn body(_: Body) {}
#[idempotent]
async fn optional(_: Option<Json<Fields>>) {}
#[idempotent]
async fn fallible(_: Result<extract::Json<Fields>, extract::rejection::JsonRejection>) {}

fn main() {
    let _: Router<Idempotency> = Router::new()
        .route("/1/{id}", post(path))
        .route("/2", post(query))
        .route("/3", post(extension))
        .route("/4", post(state))
        .route("/5", post(headers))
        .route("/6", post(json))
        .route("/7", post(form))
        .route("/8", post(bytes))
        .route("/9", post(string))
        .route("/10", post(multipart))
        .route("/11", post(request))
        .route("/12", post(body))
        .route("/13", post(optional))
        .route("/14", post(fallible));
}
