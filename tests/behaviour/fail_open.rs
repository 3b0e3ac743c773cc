//! `OnStoreFailure::FailOpen` is for keys that cannot be looked up, and never for one that is known to be in use.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{
    Abandoned, ManualClock, OnStoreFailure, Recovery, StoredResponse, idempotent,
};
use tokio::time::{sleep, timeout};

use crate::support::{App, Fault, FaultyStore, LEASE, Local, Operation, Probe, builder_on};

#[idempotent(in_flight = "wait", wait = "1h")]
async fn waiting(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent(on_abandoned = found)]
async fn recovered(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

async fn found(_: Abandoned) -> Recovery {
    let response = StoredResponse::new(StatusCode::OK, HeaderMap::new(), "found");
    Recovery::Replay(response)
}

fn routes() -> Router<App> {
    Router::new()
        .route("/waiting", post(waiting))
        .route("/recovered", post(recovered))
}

const AWAY: Fault = Fault::Refused(StoreErrorKind::Unavailable);

fn fail_open(store: &FaultyStore) -> Local {
    let builder = builder_on(store.clone()).on_store_failure(OnStoreFailure::FailOpen);
    Local::with(builder, routes())
}

#[tokio::test(start_paused = true)]
async fn waiter_of_a_running_request_does_not_run() {
    let store = FaultyStore::new(MemoryStore::new()).without_notifications();
    let local = fail_open(&store);
    let first = local.spawn("/waiting", "key");
    local.probe.started().await;
    let waiter = local.spawn("/waiting", "key");
    // It has looked twice, and waits.
    while store.calls(Operation::Claim) < 3 {
        sleep(Duration::from_millis(5)).await;
    }
    // What looks for it cannot read the record, so it looks again by itself.
    store.script(Operation::Get, AWAY);
    store.script_times(2, Operation::Claim, AWAY);
    let reply = timeout(Duration::from_secs(60), waiter).await;
    assert_eq!(local.probe.runs(), 1, "{reply:?}");
    let reply = reply.expect("an answer").unwrap();
    reply.assert_problem(503, "store-unavailable");
    local.probe.open();
    assert_eq!(first.await.unwrap().text(), "1");
}

/// Retries the request of a process that has crashed, on a store that fails so once it has said that.
async fn assert_crash_is_not_run_again(
    store: FaultyStore,
    clock: &ManualClock,
    faults: &[(Operation, Fault)],
) {
    let crashed = Local::new(store.clone(), routes());
    let _crashed = crashed.spawn("/recovered", "key");
    crashed.probe.started().await;
    clock.advance(LEASE);
    let local = fail_open(&store);
    // One that runs is not held up.
    local.probe.open();
    for (operation, fault) in faults {
        store.script(*operation, *fault);
    }
    let retry = local.post("/recovered", "key").await;
    assert_eq!(local.probe.runs(), 0, "{retry:?}");
    retry.assert_problem(503, "store-unavailable");
}

#[tokio::test]
async fn crash_whose_owner_gets_no_grace_is_not_run_again() {
    let clock = Arc::new(ManualClock::new());
    let memory = MemoryStore::builder()
        .clock(Arc::clone(&clock) as _)
        .build();
    let faults = [(Operation::GiveGrace, AWAY)];
    assert_crash_is_not_run_again(FaultyStore::new(memory), &clock, &faults).await;
}

#[tokio::test]
async fn crash_that_cannot_be_read_is_not_run_again() {
    let clock = Arc::new(ManualClock::new());
    let faults = [(Operation::Get, AWAY)];
    assert_crash_is_not_run_again(FaultyStore::certain(&clock), &clock, &faults).await;
}

#[tokio::test]
async fn crash_that_cannot_be_taken_over_is_not_run_again() {
    let clock = Arc::new(ManualClock::new());
    let claims = [Fault::Works, AWAY, AWAY].map(|fault| (Operation::Claim, fault));
    assert_crash_is_not_run_again(FaultyStore::certain(&clock), &clock, &claims).await;
}
