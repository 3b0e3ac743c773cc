//! Any pattern that a function's argument can have, with expressions that look at what it binds.
#![deny(warnings)]

use axum::Router;
use axum::extract::{Json, Path, Query, State};
use axum::http::{HeaderMap, Method};
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Deserialize, Serialize)]
struct Money(u64, u8);

#[derive(Deserialize)]
struct Order {
    price: Money,
    lines: [u32; 2],
    note: String,
}

#[derive(Deserialize)]
struct Everything {}

#[idempotent(scope = headers.len())]
async fn mutable(mut headers: HeaderMap, mut body: String) -> String {
    headers.clear();
    body.push('!');
    body
}

#[idempotent(scope = id)]
async fn ignored(_: Method, Path((id, _)): Path<(u64, u64)>, _unused: String) -> String {
    id.to_string()
}

#[idempotent(
    key = (tenant, first, second),
    scope = (&whole.1, cents),
    fingerprint = (&note, whole),
)]
async fn nested(
    Path((tenant, mut day)): Path<(u64, u64)>,
    Json(Order {
        price: whole @ Money(cents, _),
        lines: [first, second],
        mut note,
    }): Json<Order>,
) -> String {
    day += u64::from(whole.1) + cents;
    note.push('.');
    format!("{tenant} {day} {first} {second} {note}")
}

#[idempotent(scope = order.note.len(), key = method.as_str())]
async fn by_reference(ref method: Method, Json(ref order): Json<Order>) -> String {
    format!("{method} {}", order.note)
}

#[idempotent(scope = limit)]
async fn through_a_reference(State(&Limits { limit, .. }): State<&'static Limits>) -> String {
    limit.to_string()
}

#[idempotent(fingerprint = (json))]
async fn without_bindings(Query(Everything {}): Query<Everything>, json: String) -> String {
    json
}

struct Limits {
    limit: u32,
    _burst: u32,
}

#[derive(Clone)]
struct App(Idempotency);

impl axum::extract::FromRef<App> for Idempotency {
    fn from_ref(App(idempotency): &App) -> Self {
        idempotency.clone()
    }
}

impl axum::extract::FromRef<App> for &'static Limits {
    fn from_ref(_: &App) -> Self {
        &Limits {
            limit: 1,
            _burst: 2,
        }
    }
}

fn main() {
    let _: Router<App> = Router::new()
        .route("/1", post(mutable))
        .route("/2/{id}/{rest}", post(ignored))
        .route("/3/{tenant}/{day}", post(nested))
        .route("/4", post(by_reference))
        .route("/5", post(through_a_reference))
        .route("/6", post(without_bindings));
}
