//! As many arguments as axum's handlers have.
#![deny(warnings)]

use axum::Router;
use axum::http::Method as M;
use axum::routing::post;
use idempotent_runtime::{Idempotency, idempotent};

#[idempotent(scope = (a.as_str(), p.len()))]
#[rustfmt::skip]
async fn create_order(
    a: M, b: M, c: M, d: M, e: M, f: M, g: M, h: M, i: M, j: M, k: M, l: M, m: M, n: M, o: M, p: String,
) -> String {
    format!("{a}{b}{c}{d}{e}{f}{g}{h}{i}{j}{k}{l}{m}{n}{o}{p}")
}

fn main() {
    let _: Router<Idempotency> = Router::new().route("/orders", post(create_order));
}
