//! `shutdown`: no new work, and what runs is recorded.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Idempotency, idempotent};

use crate::support::{App, Local, Probe, raw_stream, reply, serve};

#[idempotent]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

fn routes() -> Router<App> {
    Router::new().route("/pay", post(pay))
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn shutdown_waits_for_running_handlers_and_refuses_new_ones() {
    let server = serve(routes()).await;
    let running = server.spawn(server.post("/pay", "key", ""));
    server.probe.started().await;
    let idempotency = server.idempotency.clone();
    let shutdown = tokio::spawn(async move { idempotency.shutdown(LONG).await });
    let refused = server.settled(server.post("/pay", "other", "")).await;
    refused.assert_problem(503, "shutting-down");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(!shutdown.is_finished());
    server.probe.open();
    assert_eq!(shutdown.await.unwrap(), 0);
    assert_eq!(running.await.unwrap().text(), "1");
    assert_eq!(server.probe.runs(), 1);
}

#[tokio::test]
async fn shutdown_waits_for_handlers_whose_client_went_away() {
    let server = serve(routes()).await;
    let request = "POST /pay HTTP/1.1\r\nhost: example.com\r\nidempotency-key: key\r\n\
        content-length: 0\r\n\r\n";
    let stream = raw_stream(server.address, request).await;
    server.probe.started().await;
    drop(stream);
    let idempotency = server.idempotency.clone();
    let shutdown = tokio::spawn(async move { idempotency.shutdown(LONG).await });
    tokio::task::yield_now().await;
    assert!(!shutdown.is_finished());
    server.probe.open();
    assert_eq!(shutdown.await.unwrap(), 0);
    assert_eq!(server.probe.finished(), 1);
}

#[tokio::test]
async fn shutdown_says_what_was_not_done_by_the_deadline() {
    let server = serve(routes()).await;
    let running = server.spawn(server.post("/pay", "key", ""));
    server.probe.started().await;
    assert_eq!(server.idempotency.pending(), 1);
    assert_eq!(server.idempotency.shutdown(Duration::ZERO).await, 1);
    server.probe.open();
    assert_eq!(running.await.unwrap().status, 200);
    assert_eq!(server.idempotency.shutdown(LONG).await, 0);
}

#[tokio::test]
async fn shutdown_of_an_idle_application_is_immediate() {
    let server = serve(routes()).await;
    server.probe.open();
    assert_eq!(reply(server.post("/pay", "key", "")).await.status, 200);
    assert_eq!(server.idempotency.pending(), 0);
    assert_eq!(server.idempotency.shutdown(Duration::ZERO).await, 0);
}

#[tokio::test]
async fn what_is_stored_is_replayed_during_a_shutdown() {
    let server = serve(routes()).await;
    server.probe.open();
    let first = reply(server.post("/pay", "key", "")).await;
    assert_eq!(server.idempotency.shutdown(LONG).await, 0);
    reply(server.post("/pay", "key", ""))
        .await
        .assert_replay_of(&first);
    reply(server.post("/pay", "key", "another body"))
        .await
        .assert_problem(503, "shutting-down");
    assert_eq!(server.probe.runs(), 1);
}

/// A process that no request has reached for a while removes what others have left, and reports it.
#[tokio::test(start_paused = true)]
async fn expired_records_are_swept_by_a_process_without_a_request() {
    let store = std::sync::Arc::new(MemoryStore::new());
    let builder = || {
        let builder = Idempotency::builder(std::sync::Arc::clone(&store));
        builder.ttl(Duration::from_secs(10))
    };
    let other = Local::with(builder().purge_interval(Duration::ZERO), routes());
    other.probe.open();
    assert_eq!(other.post("/pay", "key").await.status, 200);
    let idle = builder().purge_interval(Duration::from_secs(60)).build();
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(store.is_empty());
    drop(idle);
}

/// On tokio's paused clock, which the store follows too.
#[tokio::test(start_paused = true)]
async fn expired_records_are_swept_until_the_shutdown() {
    let store = std::sync::Arc::new(MemoryStore::new());
    let builder = Idempotency::builder(std::sync::Arc::clone(&store))
        .ttl(Duration::from_secs(10))
        .purge_interval(Duration::from_secs(60));
    let local = Local::with(builder, routes());
    for round in ["one", "two"] {
        local.probe.open();
        assert_eq!(local.post("/pay", round).await.status, 200);
        assert_eq!(store.len(), 1, "not swept yet, or swept at the last look");
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert!(
            store.is_empty(),
            "no request has claimed since, and it is swept all the same"
        );
    }
    local.probe.open();
    assert_eq!(local.post("/pay", "three").await.status, 200);
    assert_eq!(local.idempotency.shutdown(LONG).await, 0);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(store.len(), 1);
}
