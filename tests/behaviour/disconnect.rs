//! Handlers survive their client.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::StatusCode;
use idempotent_runtime::{Idempotency, idempotent};
use tokio::io::AsyncWriteExt;
use tower_http::timeout::TimeoutLayer;

use crate::support::{App, Probe, Server, raw_stream, reply, serve};

#[idempotent]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

fn routes() -> Router<App> {
    Router::new().route("/pay", post(pay))
}

const REQUEST: &str =
    "POST /pay HTTP/1.1\r\nhost: example.com\r\nidempotency-key: key\r\ncontent-length: 0\r\n\r\n";

/// The client is gone: waits until the server has noticed, lets the handler finish, and retries.
async fn assert_ran_once(server: &Server) {
    noticed(&server.idempotency).await;
    server.probe.open();
    let retry = server.settled(server.post("/pay", "key", "")).await;
    assert_eq!(
        (retry.status, retry.text(), retry.is_replay()),
        (200, "1", true)
    );
    assert_eq!((server.probe.runs(), server.probe.finished()), (1, 1));
}

/// Waits until a handler has moved to the background: besides the claim there is a task then.
async fn noticed(idempotency: &Idempotency) {
    for _ in 0..2_000 {
        if idempotency.pending() == 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the server did not notice that its client went away");
}

#[tokio::test]
async fn http_1_close() {
    let server = serve(routes()).await;
    let stream = raw_stream(server.address, REQUEST).await;
    server.probe.started().await;
    drop(stream);
    assert_ran_once(&server).await;
}

#[tokio::test]
async fn http_1_half_close() {
    let server = serve(routes()).await;
    let mut stream = raw_stream(server.address, REQUEST).await;
    server.probe.started().await;
    stream.shutdown().await.unwrap();
    assert_ran_once(&server).await;
}

#[tokio::test]
async fn http_2_reset() {
    let server = serve(routes()).await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let url = format!("http://{}/pay", server.address);
    // The connection stays open: dropping the request resets its stream only.
    let request = tokio::spawn(client.post(&url).header("idempotency-key", "key").send());
    server.probe.started().await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    noticed(&server.idempotency).await;
    server.probe.open();
    let retry = client.post(&url).header("idempotency-key", "key");
    let retry = server.settled(retry).await;
    assert_eq!(
        (retry.status, retry.text(), retry.is_replay()),
        (200, "1", true)
    );
    assert_eq!((server.probe.runs(), server.probe.finished()), (1, 1));
}

#[tokio::test]
async fn a_timeout_layer() {
    let limit =
        TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_millis(50));
    let server = serve(routes().layer(limit)).await;
    let timed_out = reply(server.post("/pay", "key", "")).await;
    assert_eq!(timed_out.status, 504);
    assert_ran_once(&server).await;
}

#[tokio::test]
async fn a_panic_in_the_background_is_stored_too() {
    #[idempotent]
    async fn panics(State(probe): State<Probe>) -> String {
        let run = probe.run_gated().await;
        panic!("in run {run}");
    }
    let server = serve(Router::new().route("/pay", post(panics))).await;
    let stream = raw_stream(server.address, REQUEST).await;
    server.probe.started().await;
    drop(stream);
    noticed(&server.idempotency).await;
    server.probe.open();
    let retry = server.settled(server.post("/pay", "key", "")).await;
    retry.assert_problem(500, "handler-failed");
    assert!(retry.is_replay());
    assert_eq!(server.probe.runs(), 1);
}
