//! A bound for the handlers that run on in the background.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use futures_util::{StreamExt, stream};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Idempotency, IdempotencyBuilder, idempotent};

use crate::support::{App, FaultyStore, Local, Probe, Reply};

#[idempotent]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent]
async fn quick(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

#[idempotent(required = false)]
async fn unprotected(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

#[idempotent]
async fn streaming(State(probe): State<Probe>) -> Response {
    let begun = stream::once(async { Bytes::from("begun") });
    let ended = stream::once(async move { Bytes::from(probe.run_gated().await.to_string()) });
    Response::new(Body::from_stream(
        begun.chain(ended).map(Ok::<_, std::io::Error>),
    ))
}

fn local(builder: IdempotencyBuilder) -> Local {
    let routes = Router::<App>::new()
        .route("/pay", post(pay))
        .route("/quick", post(quick))
        .route("/unprotected", post(unprotected))
        .route("/streaming", post(streaming));
    Local::with(builder, routes)
}

/// One whose handler may run on in the background, and no second.
fn bounded() -> Local {
    local(Idempotency::builder(MemoryStore::new()).max_background_handlers(1))
}

/// Leaves a handler to run on in the background.
async fn leave(local: &Local, key: &'static str) {
    let before = local.idempotency.pending();
    let client = local.spawn("/pay", key);
    local.probe.started().await;
    client.abort();
    // The claim, and the task.
    local.pending(before + 2).await;
}

#[track_caller]
fn assert_overloaded(reply: &Reply) {
    reply.assert_problem(503, "overloaded");
    assert_eq!(reply.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn no_handler_begins_while_too_many_run_on_in_the_background() {
    let waiting = FaultyStore::new(MemoryStore::new());
    for builder in [
        Idempotency::builder(MemoryStore::new()),
        Idempotency::builder(waiting),
    ] {
        let local = local(builder.max_background_handlers(1));
        let done = local.post("/quick", "done").await;
        local.probe.started().await;
        leave(&local, "left").await;
        assert_overloaded(&local.post("/quick", "new").await);
        assert_overloaded(&local.post("/pay", "left").await);
        // What was done before is answered, and so is what needs no protection.
        local.post("/quick", "done").await.assert_replay_of(&done);
        assert_eq!(local.post_without_key("/unprotected").await.status, 200);
        local.probe.open();
        local.pending(0).await;
        let left = local.post("/pay", "left").await;
        assert_eq!((left.text(), left.is_replay()), ("2", true));
        let new = local.post("/quick", "new").await;
        assert_eq!((new.text(), new.is_replay()), ("4", false));
    }
}

#[tokio::test]
async fn handlers_that_run_when_the_bound_is_reached_are_not_cut_off() {
    let local = bounded();
    let second = local.spawn("/pay", "second");
    local.probe.started().await;
    leave(&local, "first").await;
    second.abort();
    local.pending(4).await;
    assert_overloaded(&local.post("/quick", "new").await);
    local.probe.open();
    // With one of two gone it is as full as before.
    local.pending(2).await;
    assert_overloaded(&local.post("/quick", "new").await);
    local.probe.open();
    local.pending(0).await;
    assert_eq!(local.probe.finished(), 2);
    for key in ["first", "second"] {
        assert!(local.post("/pay", key).await.is_replay());
    }
    assert_eq!(local.post("/quick", "new").await.status, 200);
}

#[tokio::test]
async fn stream_that_is_read_on_in_the_background_counts() {
    let local = bounded();
    let mut body = local
        .response("/streaming", "key")
        .await
        .into_body()
        .into_data_stream();
    assert_eq!(body.next().await.unwrap().unwrap(), "begun");
    assert_eq!(
        local.post("/quick", "one").await.status,
        200,
        "its client is there"
    );
    drop(body);
    local.pending(2).await;
    assert_overloaded(&local.post("/quick", "two").await);
    local.probe.open();
    local.pending(0).await;
    assert_eq!(local.post("/quick", "two").await.status, 200);
    assert!(local.post("/streaming", "key").await.is_replay());
}

/// What ends with its runtime is not in the background any more.
#[test]
fn handlers_that_end_with_their_runtime_do_not_count() {
    let local = bounded();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let first = runtime();
    first.block_on(leave(&local, "left"));
    drop(first);
    let second = runtime();
    assert_eq!(second.block_on(local.post("/quick", "new")).status, 200);
}

#[tokio::test]
async fn there_is_no_bound_unless_it_is_set() {
    let local = local(Idempotency::builder(MemoryStore::new()));
    for key in ["a", "b", "c", "d"] {
        leave(&local, key).await;
    }
    assert_eq!(local.post("/quick", "new").await.status, 200);
    (0..4).for_each(|_| local.probe.open());
    assert_eq!(local.idempotency.shutdown(Duration::from_secs(60)).await, 0);
}

#[test]
#[should_panic(expected = "no handler ever runs")]
fn bound_of_zero_is_an_error() {
    let _ = Idempotency::builder(MemoryStore::new()).max_background_handlers(0);
}
