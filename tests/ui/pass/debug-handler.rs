//! axum's own check of a handler, which sees the arguments as they are written.
#![deny(warnings)]

use axum::extract::{FromRef, State};
use axum::routing::post;
use axum::{Json, Router, debug_handler};
use idempotent_runtime::{Idempotency, idempotent};

#[derive(Clone)]
struct App(Idempotency);

impl FromRef<App> for Idempotency {
    fn from_ref(app: &App) -> Self {
        app.0.clone()
    }
}

#[idempotent]
#[debug_handler]
async fn inferred(State(_app): State<App>, Json(quantity): Json<u32>) -> Result<Json<u32>, String> {
    Ok(Json(quantity))
}

#[idempotent(scope = body.len())]
#[axum::debug_handler(state = App)]
async fn given(body: String) -> String {
    body
}

#[axum::debug_handler] async fn health() -> &'static str { "ok" }
#[idempotent]
async fn below_another() {}

fn main() {
    let _: Router<App> = Router::new()
        .route("/health", axum::routing::get(health))
        .route("/3", post(below_another))
        .route("/1", post(inferred))
        .route("/2", post(given));
}
