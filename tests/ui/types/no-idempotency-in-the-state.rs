//! An application that forgot its `Idempotency` does not compile.

use axum::Router;
use axum::routing::post;
use idempotent_runtime::idempotent;

#[derive(Clone)]
struct App;

#[idempotent]
async fn create_order(body: String) -> String {
    body
}

fn main() {
    let _: Router<App> = Router::new().route("/orders", post(create_order));
}
