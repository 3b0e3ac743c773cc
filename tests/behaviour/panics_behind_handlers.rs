//! Panics of what a handler has left: a panic's payload, an error of its body.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use futures_util::stream;
use idempotent_runtime::idempotent;
use tracing_subscriber::prelude::*;

use crate::support::{Probe, reply, serve};

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("in the drop of a panic's payload");
        }
    }
}

#[idempotent]
async fn explodes(State(probe): State<Probe>) -> String {
    probe.run();
    std::panic::panic_any(Bomb)
}

/// "the handler panicked: 500 `handler-failed`, stored like any other 5xx".
#[tokio::test]
async fn a_panic_is_stored_whatever_its_payload_does() {
    let server = serve(Router::new().route("/", post(explodes))).await;
    let first = server.post("/", "key", "").send().await;
    let first = first
        .map(|it| it.status().as_u16())
        .map_err(|it| it.to_string());
    server.pending(0).await;
    let again = reply(server.post("/", "key", "")).await;
    assert_eq!((first, again.code()), (Ok(500), Some("handler-failed")));
}

#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("in the text of an error")
    }
}

impl std::error::Error for Unspeakable {}

#[idempotent]
async fn breaks_off(State(probe): State<Probe>) -> Response {
    probe.run();
    let body = stream::iter([Ok(Bytes::from("half")), Err(Unspeakable)]);
    Response::new(Body::from_stream(body))
}

#[tokio::test]
async fn a_body_that_breaks_off_is_stored_whatever_its_error_says() {
    let _guard = tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_writer(std::io::sink))
        .set_default();
    let server = serve(Router::new().route("/", post(breaks_off))).await;
    if let Ok(response) = server.post("/", "key", "").send().await {
        let _ = response.bytes().await;
    }
    server.pending(0).await;
    let again = reply(server.post("/", "key", "")).await;
    assert_eq!(
        (again.status, again.code()),
        (200, Some("response-not-retained")),
        "{}",
        again.text()
    );
}
