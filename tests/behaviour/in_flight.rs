//! Duplicates of a request that is still running.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Idempotency, ManualClock, idempotent};

use crate::support::{App, Local, Probe, reply, serve};

#[idempotent]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

fn routes() -> Router<App> {
    Router::new().route("/pay", post(pay))
}

#[tokio::test]
async fn a_duplicate_of_a_running_request_is_409_with_retry_after() {
    let server = serve(routes()).await;
    let running = server.spawn(server.post("/pay", "key", ""));
    server.probe.started().await;
    let duplicate = reply(server.post("/pay", "key", "")).await;
    duplicate.assert_problem(409, "in-flight");
    // And not the lease, which is many times what a handler takes.
    assert_eq!(duplicate.header("retry-after"), Some("1"));
    server.probe.open();
    let first = running.await.unwrap();
    reply(server.post("/pay", "key", ""))
        .await
        .assert_replay_of(&first);
}

/// `Retry-After`, when the lease of 30 s has been running for so many milliseconds.
async fn retry_after(pause: Duration, elapsed_millis: u64) -> String {
    let clock = Arc::new(ManualClock::new());
    let store = MemoryStore::builder().clock(clock.clone()).build();
    let local = Local::with(Idempotency::builder(store).retry_after(pause), routes());
    let running = local.spawn("/pay", "key");
    local.probe.started().await;
    clock.advance(Duration::from_millis(elapsed_millis));
    let duplicate = local.post("/pay", "key").await;
    duplicate.assert_problem(409, "in-flight");
    running.abort();
    duplicate.header("retry-after").unwrap().to_owned()
}

#[tokio::test]
async fn retry_after_is_the_handles_and_never_more_than_what_is_left_of_the_lease() {
    let secs = Duration::from_secs;
    for (pause, elapsed_millis, expected) in [
        (secs(5), 0, "5"),
        (Duration::from_millis(1500), 0, "2"),
        (Duration::ZERO, 0, "1"),
        (secs(5), 27_500, "3"),
        (secs(5), 29_999, "1"),
        (Duration::MAX, 0, "30"),
    ] {
        let answered = retry_after(pause, elapsed_millis).await;
        assert_eq!(answered, expected, "{pause:?} after {elapsed_millis} ms");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_concurrent_duplicates_run_once() {
    let server = Arc::new(serve(routes()).await);
    let barrier = Arc::new(tokio::sync::Barrier::new(50));
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let (server, barrier) = (Arc::clone(&server), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                server.settled(server.post("/pay", "key", "")).await
            })
        })
        .collect();
    server.probe.started().await;
    server.probe.open();
    let mut replies = Vec::new();
    for client in clients {
        replies.push(client.await.unwrap());
    }
    assert_eq!(server.probe.runs(), 1);
    assert!(
        replies
            .iter()
            .all(|reply| (reply.status, reply.text()) == (200, "1")),
        "{replies:?}"
    );
    assert_eq!(replies.iter().filter(|reply| !reply.is_replay()).count(), 1);
}

#[tokio::test]
async fn other_keys_are_not_held_up() {
    let server = serve(routes()).await;
    let running = server.spawn(server.post("/pay", "one", ""));
    server.probe.started().await;
    let other = server.spawn(server.post("/pay", "two", ""));
    server.probe.started().await;
    server.probe.open();
    server.probe.open();
    assert_eq!(
        (running.await.unwrap().status, other.await.unwrap().status),
        (200, 200)
    );
    assert_eq!(server.probe.runs(), 2);
}
