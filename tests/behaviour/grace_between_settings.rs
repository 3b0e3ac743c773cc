//! The process that takes over may have other settings than the one whose lease has ended.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Idempotency, IdempotencyBuilder, idempotent};
use tokio::time::sleep;

use crate::support::{App, Fault, FaultyStore, LEASE, Local, Operation, Probe};

#[idempotent(name = "pay", on_abandoned = "retry", lease = "30s")]
async fn long(State(probe): State<Probe>) -> String {
    let run = probe.run();
    sleep(10 * LEASE).await;
    run.to_string()
}

/// The same operation in the next release, with a shorter lease.
#[idempotent(name = "pay", on_abandoned = "retry", lease = "1s")]
async fn shorter(State(probe): State<Probe>) -> String {
    let run = probe.run();
    sleep(10 * LEASE).await;
    run.to_string()
}

async fn outage(owner: Local, other: Local, store: FaultyStore) -> usize {
    let running = owner.spawn("/pay", "key");
    owner.probe.started().await;
    let out = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(1000, Operation::Renew, out);
    // Just after a try of the owner's.
    sleep(Duration::from_millis(40_050)).await;
    store.unscript(Operation::Renew);
    let other_probe = other.probe.clone();
    let again = other.spawn("/pay", "key");
    sleep(Duration::from_secs(20)).await;
    let runs = owner.probe.runs() + other_probe.runs();
    drop((running, again));
    runs
}

fn local(builder: IdempotencyBuilder, is_long: bool) -> Local {
    let router: Router<App> = if is_long {
        Router::new().route("/pay", post(long))
    } else {
        Router::new().route("/pay", post(shorter))
    };
    Local::with(builder.secret_check(false), router)
}

/// A failed renewal is tried again after a second, whatever the timeout is.
#[tokio::test(start_paused = true)]
async fn grace_is_longer_than_the_owners_pause() {
    let store = FaultyStore::new(MemoryStore::new());
    let builder = || Idempotency::builder(store.clone()).store_timeout(Duration::from_millis(200));
    let runs = outage(
        local(builder(), true),
        local(builder(), true),
        store.clone(),
    )
    .await;
    assert_eq!(runs, 1, "the owner is alive");
}

/// The release that takes over has a shorter lease than the one that runs.
#[tokio::test(start_paused = true)]
async fn grace_does_not_depend_on_the_lease_of_who_takes_over() {
    let store = FaultyStore::new(MemoryStore::new());
    let builder = || Idempotency::builder(store.clone());
    let runs = outage(
        local(builder(), true),
        local(builder(), false),
        store.clone(),
    )
    .await;
    assert_eq!(runs, 1, "the owner is alive");
}
