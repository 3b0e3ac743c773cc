//! The replay cache that every application has whose store is not in its memory.

use std::pin::pin;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use futures_util::poll;
use http_body_util::BodyExt;
use idempotent_runtime::idempotent;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{ReplayCache, StoreErrorKind};
use idempotent_runtime::{IdempotencyBuilder, Locator};

use crate::support::{
    App, Fault, FaultyStore, Local, Operation, Probe, Reply, builder_on, reply, serve_with,
};

#[idempotent]
async fn pay(State(probe): State<Probe>, body: String) -> String {
    format!("{body} in run {}", probe.run())
}

fn routes() -> Router<App> {
    Router::new().route("/pay", post(pay))
}

/// How often the store was asked to claim and to read.
fn calls(store: &FaultyStore) -> (usize, usize) {
    (store.calls(Operation::Claim), store.calls(Operation::Get))
}

/// Pays once and retries five times, on a store of this kind and with these settings.
async fn retried(
    store: &FaultyStore,
    settings: impl FnOnce(IdempotencyBuilder) -> IdempotencyBuilder,
) -> (usize, usize) {
    let builder = settings(cached(store.clone()));
    let server = serve_with(builder, routes()).await;
    let first = reply(server.post("/pay", "key", "10")).await;
    assert_eq!((first.status, first.text()), (200, "10 in run 1"));
    for _ in 0..5 {
        let retry = reply(server.post("/pay", "key", "10")).await;
        retry.assert_replay_of(&first);
    }
    calls(store)
}

fn cached(store: FaultyStore) -> IdempotencyBuilder {
    builder_on(store).replay_cache(ReplayCache::new())
}

fn server_store() -> FaultyStore {
    FaultyStore::new(MemoryStore::new())
}

#[tokio::test]
async fn hot_replays_ask_a_server_nothing() {
    assert_eq!(retried(&server_store(), |builder| builder).await, (2, 1));
}

/// As of a runtime that stands still, or was left behind by its application.
#[tokio::test]
async fn reader_that_is_not_driven_holds_up_no_other_replay() {
    let store = server_store();
    let local = Local::with(cached(store.clone()), routes());
    let first = local.post("/pay", "key").await;
    local.post("/pay", "key").await.assert_replay_of(&first);
    // The next one reads for all.
    let mut reader = pin!(local.post("/pay", "key"));
    store.script(Operation::Get, Fault::Waits);
    while store.calls(Operation::Get) == 0 {
        assert!(poll!(&mut reader).is_pending());
        tokio::task::yield_now().await;
    }
    for _ in 0..2 {
        local.post("/pay", "key").await.assert_replay_of(&first);
    }
    assert_eq!(calls(&store), (2, 2), "the first of the others has read");
}

#[tokio::test]
async fn replays_ask_a_server_each_time_when_the_cache_is_switched_off() {
    let store = server_store();
    assert_eq!(
        retried(&store, |builder| builder.replay_cache(None)).await,
        (6, 0)
    );
}

async fn retries(count: usize, post: impl AsyncFn() -> Reply) -> Reply {
    let mut last = post().await;
    for _ in 0..count {
        last = post().await;
    }
    last
}

#[tokio::test]
async fn another_body_is_422_from_the_cache() {
    let store = server_store();
    let server = serve_with(cached(store.clone()), routes()).await;
    let replay = retries(3, || reply(server.post("/pay", "key", "10"))).await;
    let asked = calls(&store);
    let other = reply(server.post("/pay", "key", "11")).await;
    other.assert_problem(422, "key-reused");
    let again = reply(server.post("/pay", "key", "10")).await;
    assert_eq!(again.body, replay.body);
    assert_eq!(calls(&store), asked);
    assert_eq!(server.probe.runs(), 1);
}

#[tokio::test]
async fn hot_replays_are_answered_while_the_store_is_away() {
    let store = server_store();
    let server = serve_with(cached(store.clone()), routes()).await;
    retries(3, || reply(server.post("/pay", "key", "10"))).await;
    let away = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(10, Operation::Claim, away);
    store.script_times(10, Operation::Get, away);
    assert!(reply(server.post("/pay", "key", "10")).await.is_replay());
    let new = reply(server.post("/pay", "another", "10")).await;
    new.assert_problem(503, "store-unavailable");
}

#[tokio::test]
async fn an_operator_frees_a_hot_key_at_once() {
    // As below, the key is no other test's.
    let store = server_store();
    let server = serve_with(cached(store.clone()), routes()).await;
    retries(3, || reply(server.post("/pay", "hot", "10"))).await;
    let key = store.claimed();
    assert!(server.idempotency.store().remove(&key).await.unwrap());
    let anew = reply(server.post("/pay", "hot", "10")).await;
    assert_eq!((anew.text(), anew.is_replay()), ("10 in run 2", false));
}

/// Neither the cache nor the answer copies a body.
#[tokio::test]
async fn hot_replays_share_one_body() {
    let local = Local::with(cached(server_store()), routes());
    let mut bodies = Vec::new();
    for _ in 0..5 {
        let body = local.response("/pay", "key").await.into_body();
        bodies.push(body.collect().await.unwrap().to_bytes());
    }
    let [.., one, other] = &bodies[..] else {
        unreachable!();
    };
    assert_eq!(one, " in run 1");
    assert_eq!(one.as_ptr(), other.as_ptr());
}

/// Also for a handle with a cache, beside one for operators that has none.
#[tokio::test]
async fn forgetting_frees_the_key_for_all_handles_of_the_process() {
    // The key is no other test's: it is forgotten in the whole process.
    let store = server_store();
    let server = serve_with(cached(store.clone()), routes()).await;
    // A handle of its own for operators, on the same store.
    let operators = builder_on(store.clone()).build();
    retries(3, || reply(server.post("/pay", "freed", "10"))).await;
    let locator = Locator::by_record_key(store.claimed());
    assert!(operators.forget(&locator).await.unwrap());
    let anew = reply(server.post("/pay", "freed", "10")).await;
    assert_eq!((anew.text(), anew.is_replay()), ("10 in run 2", false));
}
