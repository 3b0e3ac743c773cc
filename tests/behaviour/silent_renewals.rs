//! A store that does not reply to renewals: as long as its process lives, no attempt is taken over.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Idempotency, idempotent};
use tokio::time::sleep;

use crate::support::{App, Fault, FaultyStore, LEASE, Local, Operation, Probe};

#[idempotent(name = "pay", on_abandoned = "retry", lease = "30s")]
async fn long(State(probe): State<Probe>) -> String {
    let run = probe.run();
    sleep(10 * LEASE).await;
    run.to_string()
}

/// "While no renewal has succeeded, one is sent at least each second, whether the last one failed or hangs." The
/// grace period before a take-over relies on that alone.
async fn runs_after_silence(store_timeout: Duration, silence: Duration) -> usize {
    let store = FaultyStore::new(MemoryStore::new());
    let local = || {
        let builder = Idempotency::builder(store.clone()).store_timeout(store_timeout);
        let routes: Router<App> = Router::new().route("/pay", post(long));
        Local::with(builder.secret_check(false), routes)
    };
    let (owner, other) = (local(), local());
    let running = owner.spawn("/pay", "key");
    owner.probe.started().await;
    // The owner's way to the store is silent, and then works again.
    store.script_times(10_000, Operation::Renew, Fault::Swallowed);
    sleep(silence).await;
    store.unscript(Operation::Renew);
    let other_probe = other.probe.clone();
    let again = other.spawn("/pay", "key");
    sleep(Duration::from_secs(5)).await;
    let runs = owner.probe.runs() + other_probe.runs();
    drop((running, again));
    runs
}

#[tokio::test(start_paused = true)]
async fn owner_whose_renewals_hang_is_not_taken_over_by_the_default_time_out() {
    let runs = runs_after_silence(Duration::from_secs(2), Duration::from_millis(45_050)).await;
    assert_eq!(runs, 1, "the owner is alive");
}

#[tokio::test(start_paused = true)]
async fn owner_whose_renewals_hang_is_not_taken_over_by_a_long_time_out() {
    let runs = runs_after_silence(Duration::from_secs(60), Duration::from_millis(45_050)).await;
    assert_eq!(runs, 1, "the owner is alive");
}

#[idempotent(name = "brief", on_abandoned = "retry", lease = "100ms")]
async fn brief(State(probe): State<Probe>) -> String {
    let run = probe.run();
    sleep(10 * LEASE).await;
    run.to_string()
}

/// The same with a timeout of 5 s, where the lease is short.
#[tokio::test(start_paused = true)]
async fn owner_of_a_short_lease_whose_renewals_hang_is_not_taken_over() {
    let store = FaultyStore::new(MemoryStore::new());
    let local = || {
        let builder = Idempotency::builder(store.clone()).store_timeout(Duration::from_secs(5));
        let routes: Router<App> = Router::new().route("/pay", post(brief));
        Local::with(builder.secret_check(false), routes)
    };
    let (owner, other) = (local(), local());
    let running = owner.spawn("/pay", "key");
    owner.probe.started().await;
    store.script_times(10_000, Operation::Renew, Fault::Swallowed);
    // A second and a half of silence.
    sleep(Duration::from_millis(1_500)).await;
    store.unscript(Operation::Renew);
    let other_probe = other.probe.clone();
    let again = other.spawn("/pay", "key");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(
        owner.probe.runs() + other_probe.runs(),
        1,
        "the owner is alive"
    );
    drop((running, again));
}
