//! What layers around a handler do, and what is stored.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use http::StatusCode;
use idempotent_runtime::idempotent;

use crate::support::{Probe, raw, reply, serve};

#[idempotent]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

/// Commits after the handler, and fails where it is told to.
async fn commit(request: Request, next: Next) -> Response {
    let fails = request.headers().contains_key("x-fail");
    let response = next.run(request).await;
    match fails {
        true => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        false => response,
    }
}

/// The documentation says so.
#[tokio::test]
async fn what_a_layer_does_after_the_handler_is_not_a_part_of_its_response() {
    let routes = Router::new().route("/", post(pay)).layer(from_fn(commit));
    let server = serve(routes).await;
    let first = reply(server.post("/", "key", "").header("x-fail", "1")).await;
    assert_eq!(first.status, 500);
    let retry = reply(server.post("/", "key", "")).await;
    assert_eq!((retry.status, retry.text()), (200, "1"));
    assert!(retry.is_replay());
}

#[idempotent]
async fn switch(State(probe): State<Probe>) -> Response {
    probe.run();
    let upgrade = [("upgrade", "echo"), ("connection", "upgrade")];
    (StatusCode::SWITCHING_PROTOCOLS, upgrade).into_response()
}

/// As for a WebSocket.
#[tokio::test]
async fn an_upgrade_by_get_passes_through() {
    let server = serve(Router::new().route("/", any(switch))).await;
    let request = "GET / HTTP/1.1\r\nhost: example.com\r\nidempotency-key: key\r\n\
        connection: upgrade\r\nupgrade: echo\r\n\r\n";
    for _ in 0..2 {
        let answer = raw(server.address, request).await;
        assert_eq!(answer.status_line(), b"HTTP/1.1 101 Switching Protocols");
        assert_eq!(answer.values("upgrade"), [b"echo"]);
        assert!(answer.values("idempotent-replayed").is_empty());
    }
    assert_eq!(server.probe.runs(), 2);
}
