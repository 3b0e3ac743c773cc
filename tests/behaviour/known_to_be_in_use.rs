//! `FailOpen` runs no request whose key the store has just said to be in use.

use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{OnStoreFailure, idempotent};

use crate::support::{Fault, FaultyStore, Local, Operation, Probe, builder_on, uuid_v7};

#[idempotent(name = "order", ttl_hours = 1, lease = "1h")]
async fn order_at_any_age(State(probe): State<Probe>) -> String {
    format!("run {}", probe.run_gated().await)
}

#[idempotent(name = "order", ttl_hours = 1, lease = "1h", key_age = "ttl")]
async fn order_in_time(State(probe): State<Probe>) -> String {
    format!("run {}", probe.run())
}

/// A look has just said that the key is in use: the opposite of a licence to run.
#[tokio::test(start_paused = true)]
async fn old_key_that_is_known_to_be_in_use_does_not_run_open() {
    let store = FaultyStore::new(MemoryStore::new());
    let before = Router::new().route("/order", post(order_at_any_age));
    let before = Local::with(builder_on(store.clone()), before);
    let builder = builder_on(store.clone()).on_store_failure(OnStoreFailure::FailOpen);
    let in_time = Local::with(builder, Router::new().route("/order", post(order_in_time)));
    let key: &'static str = uuid_v7(SystemTime::now() - Duration::from_secs(2 * 60 * 60)).leak();
    let running = before.spawn("/order", key);
    before.probe.started().await;
    let away = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(2, Operation::Claim, away);
    let retry = in_time.post("/order", key).await;
    assert_eq!(in_time.probe.runs(), 0, "second charge: {retry:?}");
    drop(running);
}

/// The first question has said that another request has the record locked: the opposite of a licence to run.
#[tokio::test(start_paused = true)]
async fn key_whose_record_is_locked_does_not_run_open() {
    for away in [
        StoreErrorKind::Unavailable,
        StoreErrorKind::TimedOut,
        StoreErrorKind::Refused,
    ] {
        let store = FaultyStore::new(MemoryStore::new());
        let routes = || Router::new().route("/order", post(order_at_any_age));
        let before = Local::with(builder_on(store.clone()), routes());
        let builder = builder_on(store.clone()).on_store_failure(OnStoreFailure::FailOpen);
        let other = Local::with(builder, routes());
        let running = before.spawn("/order", "key");
        before.probe.started().await;
        for kind in [StoreErrorKind::Busy, away] {
            store.script(Operation::Claim, Fault::Refused(kind));
        }
        other.probe.open();
        let retry = other.post("/order", "key").await;
        assert_eq!(other.probe.runs(), 0, "second charge: {retry:?}");
        drop(running);
    }
}
