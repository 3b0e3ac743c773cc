//! A store that fails never turns one charge into two.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Idempotency, OnStoreFailure, Release, idempotent};

use crate::support::{
    App, Fault, FaultyStore, Operation, Probe, Server, reply, serve_on, serve_with,
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
async fn a_store_that_hangs_is_a_503_in_bounded_time() {
    let store = FaultyStore::new(MemoryStore::new());
    let timeout = Duration::from_millis(20);
    let builder = Idempotency::builder(store.clone()).store_timeout(timeout);
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
    for choice in [OnStoreFailure::Reject, OnStoreFailure::RunUnprotected] {
        let store = FaultyStore::new(MemoryStore::new());
        let builder = Idempotency::builder(store.clone()).on_store_failure(choice);
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
    let builder =
        Idempotency::builder(store.clone()).on_store_failure(OnStoreFailure::RunUnprotected);
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
async fn a_record_lost_by_the_store_is_put_back_with_its_answer() {
    #[idempotent]
    async fn gated(State(probe): State<Probe>) -> String {
        probe.run_gated().await.to_string()
    }
    let store = MemoryStore::new();
    let store = std::sync::Arc::new(store);
    let spy = Spy::new(store.clone());
    let server = serve_on(spy.clone(), Router::new().route("/", post(gated))).await;
    let running = server.spawn(server.post("/", "key", ""));
    server.probe.started().await;
    // As if the store had been restarted without its data.
    assert!(spy.forget_claimed().await);
    server.probe.open();
    let first = running.await.unwrap();
    assert_eq!((first.text(), first.is_replay()), ("1", false));
    reply(server.post("/", "key", ""))
        .await
        .assert_replay_of(&first);
    assert_eq!(server.probe.runs(), 1);
}

use spy::Spy;

/// A store that remembers which key was claimed last.
mod spy {
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use idempotent_runtime::store::*;
    use idempotent_runtime::{Owner, Record, RecordKey, StoredResponse};

    #[derive(Clone, Debug)]
    pub struct Spy {
        inner: Arc<dyn Store>,
        last: Arc<Mutex<Option<RecordKey>>>,
    }

    impl Spy {
        pub fn new(inner: Arc<dyn Store>) -> Self {
            Self {
                inner,
                last: Arc::default(),
            }
        }

        pub async fn forget_claimed(&self) -> bool {
            let key = self.last.lock().unwrap().expect("a claim");
            self.inner.remove(&key).await.unwrap()
        }
    }

    #[async_trait]
    impl Store for Spy {
        fn name(&self) -> &'static str {
            "spy"
        }
        async fn claim(&self, request: &ClaimRequest) -> Result<Claim, StoreError> {
            *self.last.lock().unwrap() = Some(request.owner.key);
            self.inner.claim(request).await
        }
        async fn renew(&self, renewals: &[Renewal]) -> Result<Vec<Owner>, StoreError> {
            self.inner.renew(renewals).await
        }
        async fn complete(
            &self,
            owner: &Owner,
            response: &Arc<StoredResponse>,
        ) -> Result<Completion, StoreError> {
            self.inner.complete(owner, response).await
        }
        async fn release(&self, owner: &Owner) -> Result<Release, StoreError> {
            self.inner.release(owner).await
        }
        async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
            self.inner.get(key).await
        }
        async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
            self.inner.remove(key).await
        }
        async fn purge_expired(&self, limit: usize) -> Result<usize, StoreError> {
            self.inner.purge_expired(limit).await
        }
        fn subscribe(&self, key: &RecordKey) -> Subscription {
            self.inner.subscribe(key)
        }
    }
}
