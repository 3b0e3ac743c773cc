//! Keys for other services' idempotency.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Attempt, Idempotency, OnStoreFailure, idempotent};

use crate::support::{
    App, Crashes, Fault, FaultyStore, Operation, Probe, builder_on, reply, serve, serve_on,
    serve_with,
};

#[idempotent(on_abandoned = "retry")]
async fn pay(attempt: Attempt, State(probe): State<Probe>, label: String) -> String {
    if attempt.number() == 1 && label.is_empty() {
        probe.run_gated().await;
    }
    format!("{} {}", attempt.number(), attempt.derived_key(&label))
}

#[idempotent(required = false, name = "pay")]
async fn optional(attempt: Attempt) -> String {
    let [one, other] = [attempt.derived_key("charge"), attempt.derived_key("charge")];
    assert_eq!(one, other);
    one
}

fn routes() -> Router<App> {
    Router::new()
        .route("/pay", post(pay))
        .route("/optional", post(optional).get(optional))
        .route("/get", get(optional))
}

#[tokio::test]
async fn a_derived_key_is_the_same_on_every_attempt() {
    let crashes = Crashes::new();
    let first = crashes.stop_at(routes(), "/pay").await;
    let server = serve_on(crashes.store.clone(), routes()).await;
    let second = reply(server.post("/pay", "key", "")).await;
    let key = second.text().strip_prefix("2 ").unwrap().to_owned();
    first.process.probe.open();
    first.reply.await.unwrap().assert_replay_of(&second);

    // A first attempt, of an application that has forgotten the key.
    let server = serve_on(MemoryStore::new(), routes()).await;
    server.probe.open();
    let again = reply(server.post("/pay", "key", "")).await;
    assert_eq!(again.text(), format!("1 {key}"));
    assert_eq!(key.len(), 64);
    assert!(key.bytes().all(|digit| digit.is_ascii_hexdigit()));
}

#[tokio::test]
async fn other_labels_keys_and_applications_have_derived_keys_of_their_own() {
    let mut seen = std::collections::HashSet::new();
    for builder in [
        Idempotency::builder(MemoryStore::new()),
        Idempotency::builder(MemoryStore::new()).namespace("shop"),
        Idempotency::builder(MemoryStore::new()).secret("secret"),
    ] {
        let server = serve_with(builder, routes()).await;
        for (key, label) in [("a", "charge"), ("b", "charge"), ("c", "refund")] {
            let answer = reply(server.post("/pay", key, label)).await;
            assert!(seen.insert(answer.text().to_owned()), "{key} {label}");
        }
    }
}

#[tokio::test]
async fn requests_without_a_key_are_intents_of_their_own() {
    let server = serve(routes()).await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..3 {
        let unkeyed = reply(server.post_without_key("/optional")).await;
        assert!(seen.insert(unkeyed.text().to_owned()));
        let safe = reply(server.request(http::Method::GET, "/optional", "key")).await;
        assert!(seen.insert(safe.text().to_owned()));
    }
}

#[tokio::test]
async fn a_key_that_could_not_be_claimed_still_derives_what_it_would_have() {
    let store = FaultyStore::new(MemoryStore::new());
    let builder = builder_on(store.clone()).on_store_failure(OnStoreFailure::FailOpen);
    let server = serve_with(builder, routes()).await;
    let away = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(2, Operation::Claim, away);
    let degraded = reply(server.post("/optional", "key", "")).await;
    assert!(degraded.header("idempotency-degraded").is_some());
    server.pending(0).await;
    let protected = reply(server.post("/optional", "key", "")).await;
    assert!(protected.header("idempotency-degraded").is_none());
    assert_eq!(degraded.text(), protected.text());
}
