//! An application whose state has an `Idempotency` and forgot its `Transactions` does not compile.

use axum::Router;
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};
use sqlx::SqliteConnection;

#[idempotent]
async fn create_order(#[tx] tx: &mut SqliteConnection, body: String) -> String {
    let _ = tx;
    body
}

fn main() {
    let _: Router<Idempotency> = Router::new().route("/orders", post(create_order));
}
