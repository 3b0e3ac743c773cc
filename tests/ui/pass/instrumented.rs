//! A span around the handler itself: what is replayed does not run it.
#![deny(warnings)]

use axum::extract::Path;
use axum::routing::post;
use axum::{Json, Router};
use idempotent_runtime::{Idempotency, idempotent};
use tracing::instrument;

#[idempotent(scope = id)]
#[instrument(skip_all, fields(id), err)]
async fn below(Path(id): Path<u64>, Json(quantity): Json<u32>) -> Result<Json<u32>, String> {
    if quantity == 0 {
        return Err(format!("nothing of {id}"));
    }
    Ok(Json(quantity))
}

fn main() {
    let _: Router<Idempotency> = Router::new().route("/1/{id}", post(below));
}
