//! The error is at the expression.

use axum::Router;
use axum::extract::Extension;
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};

#[derive(Clone)]
struct User;

#[idempotent(scope = user)]
async fn create_order(Extension(user): Extension<User>) {
    let User = user;
}

fn main() {
    let _: Router<Idempotency> = Router::new().route("/orders", post(create_order));
}
