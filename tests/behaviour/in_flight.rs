//! Duplicates of a request that is still running.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::idempotent;

use crate::support::{App, Probe, reply, serve};

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
    let retry_after: u64 = duplicate.header("retry-after").unwrap().parse().unwrap();
    assert!(
        (1..=30).contains(&retry_after),
        "seconds of lease left: {retry_after}"
    );
    server.probe.open();
    let first = running.await.unwrap();
    reply(server.post("/pay", "key", ""))
        .await
        .assert_replay_of(&first);
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
