//! Proofs of the second review.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Builder, Idempotency, idempotent};
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

fn local(builder: Builder, is_long: bool) -> Local {
    let router: Router<App> = if is_long {
        Router::new().route("/pay", post(long))
    } else {
        Router::new().route("/pay", post(shorter))
    };
    Local::with(builder.secret_check(false), router)
}

/// One configuration: a store time-out of 200 ms makes the grace (900 ms) shorter than the pause between two
/// renewals that failed (1 s).
#[tokio::test(start_paused = true)]
async fn review2_grace_shorter_than_the_owners_pause() {
    let store = FaultyStore::new(MemoryStore::new());
    let builder =
        || Idempotency::builder(store.clone()).store_timeout(Duration::from_millis(200));
    let runs = outage(local(builder(), true), local(builder(), true), store.clone()).await;
    assert_eq!(runs, 1, "the owner is alive");
}

/// Default settings: the release that takes over has a shorter lease than the one that runs.
#[tokio::test(start_paused = true)]
async fn review2_grace_of_a_shorter_lease() {
    let store = FaultyStore::new(MemoryStore::new());
    let builder = || Idempotency::builder(store.clone());
    let runs = outage(local(builder(), true), local(builder(), false), store.clone()).await;
    assert_eq!(runs, 1, "the owner is alive");
}
