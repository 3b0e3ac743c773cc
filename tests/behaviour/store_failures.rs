//! A store that fails never turns one charge into two.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{OnStoreFailure, Release, idempotent};

use crate::support::{
    App, Fault, FaultyStore, Local, Operation, Probe, Server, builder_on, reply, serve_on,
    serve_with,
};

#[idempotent]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

#[idempotent]
async fn refuse(State(probe): State<Probe>) -> Release<String> {
    Release(probe.run().to_string())
}

fn routes() -> Router<App> {
    Router::new()
        .route("/pay", post(pay))
        .route("/refuse", post(refuse))
}

const AWAY: Fault = Fault::Refused(StoreErrorKind::Unavailable);

const LEASE: Duration = Duration::from_secs(30);

async fn faulty() -> (Server, FaultyStore) {
    let store = FaultyStore::new(MemoryStore::new());
    (serve_on(store.clone(), routes()).await, store)
}

#[tokio::test]
async fn down_before_the_handler_is_503_and_nothing_runs() {
    let (server, store) = faulty().await;
    store.script(Operation::Claim, AWAY);
    store.script(Operation::Claim, AWAY);
    let refused = reply(server.post("/pay", "key", "")).await;
    refused.assert_problem(503, "store-unavailable");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(server.probe.runs(), 0);
    server.pending(0).await;
    assert_eq!(reply(server.post("/pay", "key", "")).await.text(), "1");
}

#[tokio::test]
async fn a_lost_claim_reply_is_asked_for_again_and_runs_once() {
    let (server, store) = faulty().await;
    store.script(Operation::Claim, Fault::ReplyLost);
    let first = reply(server.post("/pay", "key", "")).await;
    assert_eq!(
        (first.status, first.text(), first.is_replay()),
        (200, "1", false)
    );
    reply(server.post("/pay", "key", ""))
        .await
        .assert_replay_of(&first);
}

#[tokio::test]
async fn a_claim_that_happened_unheard_twice_is_released() {
    let (server, store) = faulty().await;
    store.script(Operation::Claim, Fault::ReplyLost);
    store.script(Operation::Claim, Fault::ReplyLost);
    store.script(Operation::Release, AWAY);
    reply(server.post("/pay", "key", ""))
        .await
        .assert_problem(503, "store-unavailable");
    server.pending(0).await;
    assert_eq!(store.calls(Operation::Release), 2, "one failed, one worked");
    let retry = reply(server.post("/pay", "key", "")).await;
    assert_eq!(
        (retry.status, retry.text()),
        (200, "1"),
        "the key was not left in flight"
    );
}

#[tokio::test]
async fn a_claim_that_happened_unheard_and_was_then_refused_is_released() {
    let (server, store) = faulty().await;
    store.script(Operation::Claim, Fault::ReplyLost);
    let rejected = Fault::Refused(StoreErrorKind::Refused);
    store.script(Operation::Claim, rejected);
    reply(server.post("/pay", "key", ""))
        .await
        .assert_problem(503, "store-unavailable");
    server.pending(0).await;
    assert_eq!(reply(server.post("/pay", "key", "")).await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn an_unheard_claim_is_released_even_if_the_store_is_away_for_longer_than_its_lease() {
    let store = FaultyStore::new(MemoryStore::new());
    let local = Local::new(store.clone(), routes());
    store.script_times(2, Operation::Claim, Fault::ReplyLost);
    store.script_times(25, Operation::Release, AWAY);
    let refused = local.post("/pay", "key").await;
    refused.assert_problem(503, "store-unavailable");
    tokio::time::sleep(2 * LEASE).await;
    let early = local.post("/pay", "key").await;
    early.assert_problem(409, "outcome-unknown");
    tokio::time::sleep(3 * LEASE).await;
    assert_eq!(local.idempotency.pending(), 0);
    assert_eq!(local.post("/pay", "key").await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_comes_after_its_release_is_released_too() {
    let store = FaultyStore::new(MemoryStore::new());
    let local = Local::new(store.clone(), routes());
    store.script_times(2, Operation::Claim, Fault::Late);
    let refused = local.post("/pay", "key").await;
    refused.assert_problem(503, "store-unavailable");
    local.pending(0).await;
    store.proceed();
    store.proceed();
    tokio::task::yield_now().await;
    let taken = local.post("/pay", "key").await;
    taken.assert_problem(409, "in-flight");
    tokio::time::sleep(LEASE / 2).await;
    assert_eq!(local.post("/pay", "key").await.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_comes_after_its_owner_has_released_it_is_released_too() {
    let store = FaultyStore::new(MemoryStore::new());
    let local = Local::new(store.clone(), routes());
    // The first question is lost on its way, and the second is answered.
    store.script(Operation::Claim, Fault::Late);
    assert_eq!(local.post("/refuse", "key").await.text(), "1");
    local.pending(0).await;
    store.proceed();
    tokio::task::yield_now().await;
    let taken = local.post("/refuse", "key").await;
    taken.assert_problem(409, "in-flight");
    tokio::time::sleep(LEASE / 2).await;
    assert_eq!(local.post("/refuse", "key").await.text(), "2");
}

#[tokio::test]
async fn a_store_that_hangs_is_a_503_in_bounded_time() {
    let store = FaultyStore::new(MemoryStore::new());
    let timeout = Duration::from_millis(20);
    let builder = builder_on(store.clone()).store_timeout(timeout);
    let server = serve_with(builder, routes()).await;
    store.script(Operation::Claim, Fault::Hangs);
    store.script(Operation::Claim, Fault::Hangs);
    reply(server.post("/pay", "key", ""))
        .await
        .assert_problem(503, "store-unavailable");
    server.pending(0).await;
    assert_eq!(reply(server.post("/pay", "key", "")).await.text(), "1");

    store.script(Operation::Complete, Fault::Hangs);
    let first = reply(server.post("/pay", "other", "")).await;
    assert_eq!(first.status, 200);
    server.pending(0).await;
    reply(server.post("/pay", "other", ""))
        .await
        .assert_replay_of(&first);
}

#[tokio::test]
async fn down_after_the_handler_answers_and_goes_on_completing() {
    let (server, store) = faulty().await;
    for _ in 0..3 {
        store.script(Operation::Complete, AWAY);
    }
    let first = reply(server.post("/pay", "key", "")).await;
    assert_eq!(
        (first.status, first.text(), first.is_replay()),
        (200, "1", false)
    );
    server.pending(0).await;
    assert_eq!(store.calls(Operation::Complete), 4);
    reply(server.post("/pay", "key", ""))
        .await
        .assert_replay_of(&first);
    assert_eq!(server.probe.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn completing_goes_on_for_longer_than_the_lease() {
    let store = FaultyStore::new(MemoryStore::new());
    let local = Local::new(store.clone(), routes());
    store.script_times(25, Operation::Complete, AWAY);
    store.script_times(60, Operation::Renew, AWAY);
    let first = local.post("/pay", "key").await;
    assert_eq!((first.status, first.text()), (200, "1"));
    tokio::time::sleep(LEASE + LEASE / 10).await;
    let early = local.post("/pay", "key").await;
    early.assert_problem(409, "outcome-unknown");
    tokio::time::sleep(3 * LEASE).await;
    local.post("/pay", "key").await.assert_replay_of(&first);
}

#[tokio::test]
async fn a_response_that_the_store_does_not_take_leaves_a_tombstone() {
    let store = FaultyStore::new(MemoryStore::new()).refusing_bodies();
    let server = serve_on(store, routes()).await;
    let first = reply(server.post("/pay", "key", "")).await;
    assert_eq!((first.status, first.text()), (200, "1"));
    server.pending(0).await;
    let replay = reply(server.post("/pay", "key", "")).await;
    replay.assert_problem(200, "response-not-retained");
    assert!(replay.is_replay());
    assert_eq!(server.probe.runs(), 1);
}

#[tokio::test]
async fn a_lost_completion_reply_changes_nothing() {
    let (server, store) = faulty().await;
    store.script(Operation::Complete, Fault::ReplyLost);
    let first = reply(server.post("/pay", "key", "")).await;
    reply(server.post("/pay", "key", ""))
        .await
        .assert_replay_of(&first);
    server.pending(0).await;
}

#[tokio::test]
async fn a_failed_release_is_tried_again() {
    let (server, store) = faulty().await;
    store.script(Operation::Release, AWAY);
    assert_eq!(reply(server.post("/refuse", "key", "")).await.text(), "1");
    server.pending(0).await;
    assert_eq!(reply(server.post("/refuse", "key", "")).await.text(), "2");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_never_taken_as_absent() {
    for choice in [OnStoreFailure::FailClosed, OnStoreFailure::FailOpen] {
        let store = FaultyStore::new(MemoryStore::new());
        let builder = builder_on(store.clone()).on_store_failure(choice);
        let server = serve_with(builder, routes()).await;
        store.script(Operation::Claim, Fault::Refused(StoreErrorKind::Corrupt));
        reply(server.post("/pay", "key", ""))
            .await
            .assert_problem(503, "store-unavailable");
        assert_eq!(server.probe.runs(), 0);
    }
}

#[tokio::test]
async fn by_explicit_choice_requests_run_unprotected_and_are_marked() {
    let store = FaultyStore::new(MemoryStore::new());
    let builder = builder_on(store.clone()).on_store_failure(OnStoreFailure::FailOpen);
    let server = serve_with(builder, routes()).await;
    store.script(Operation::Claim, AWAY);
    store.script(Operation::Claim, AWAY);
    let degraded = reply(server.post("/pay", "key", "")).await;
    assert_eq!((degraded.status, degraded.text()), (200, "1"));
    assert_eq!(degraded.header("idempotency-degraded"), Some("true"));
    let protected = reply(server.post("/pay", "key", "")).await;
    assert_eq!(
        (protected.text(), protected.header("idempotency-degraded")),
        ("2", None)
    );
}

#[tokio::test]
async fn a_full_store_refuses_new_keys_and_replays_old_ones() {
    let clock = std::sync::Arc::new(idempotent_runtime::ManualClock::new());
    let store = MemoryStore::builder()
        .max_records(2)
        .clock(clock.clone())
        .build();
    let server = serve_on(store, routes()).await;
    let first = reply(server.post("/pay", "one", "")).await;
    reply(server.post("/pay", "two", "")).await;
    reply(server.post("/pay", "three", ""))
        .await
        .assert_problem(503, "store-unavailable");
    assert_eq!(server.probe.runs(), 2);
    reply(server.post("/pay", "one", ""))
        .await
        .assert_replay_of(&first);
    clock.advance(Duration::from_secs(24 * 60 * 60));
    assert_eq!(reply(server.post("/pay", "three", "")).await.text(), "3");
}

#[tokio::test]
async fn store_that_panics_loses_no_response() {
    for at_once in [Fault::Panics, AWAY] {
        let (server, store) = faulty().await;
        store.script(Operation::Complete, at_once);
        store.script(Operation::Complete, Fault::Panics);
        let first = reply(server.post("/pay", "key", "")).await;
        assert_eq!((first.status, first.text()), (200, "1"));
        server.pending(0).await;
        let replay = reply(server.post("/pay", "key", "")).await;
        replay.assert_replay_of(&first);
    }
}

#[tokio::test]
async fn store_that_panics_holds_no_released_key() {
    let (server, store) = faulty().await;
    store.script(Operation::Release, Fault::Panics);
    assert_eq!(reply(server.post("/refuse", "key", "")).await.text(), "1");
    server.pending(0).await;
    assert_eq!(reply(server.post("/refuse", "key", "")).await.text(), "2");
}

/// The second question, with the same token, finds the claim.
#[tokio::test]
async fn store_that_panics_behind_a_claim_holds_no_key() {
    let (server, store) = faulty().await;
    store.script(Operation::Claim, Fault::PanicsAfterwards);
    let first = reply(server.post("/pay", "key", "")).await;
    assert_eq!((first.status, first.text()), (200, "1"));
    let replay = reply(server.post("/pay", "key", "")).await;
    replay.assert_replay_of(&first);
}

/// Both questions are without a reply, and what they have claimed is given up.
#[tokio::test]
async fn store_that_panics_behind_each_claim_holds_no_key() {
    let (server, store) = faulty().await;
    store.script_times(2, Operation::Claim, Fault::PanicsAfterwards);
    let refused = reply(server.post("/pay", "key", "")).await;
    refused.assert_problem(503, "store-unavailable");
    server.pending(0).await;
    assert_eq!(reply(server.post("/pay", "key", "")).await.text(), "1");
}
