//! Responses that live for less than what a request waits for: a look at the record, a grace period, a recovery function. A request that
//! was there before the response does not run because it has expired meanwhile.

use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Abandoned, Recovery, Release, idempotent};
use tokio::time::{sleep, timeout};

use crate::support::{App, Fault, FaultyStore, Local, Operation, Probe, builder_on, uuid_v7};

#[idempotent(name = "soon", ttl = "300ms", in_flight = "wait", wait = "1h")]
async fn soon_gone(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

/// A store without notifications is looked at each second. What a duplicate has waited for is gone by then, and it runs.
#[tokio::test(start_paused = true)]
async fn waiter_for_an_answer_of_a_short_life_does_not_run() {
    let store = FaultyStore::new(MemoryStore::new()).without_notifications();
    let routes = || -> Router<App> { Router::new().route("/soon", post(soon_gone)) };
    let (owner, other) = (
        Local::with(builder_on(store.clone()), routes()),
        Local::with(builder_on(store.clone()), routes()),
    );
    let mut runs = 0;
    for key in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        let first = owner.spawn("/soon", key);
        owner.probe.started().await;
        let waiter = other.spawn("/soon", key);
        sleep(Duration::from_secs(10)).await;
        owner.probe.open();
        let _first = first.await.unwrap();
        other.probe.open();
        let _second = timeout(Duration::from_secs(60), waiter)
            .await
            .unwrap()
            .unwrap();
        runs = other.probe.runs();
    }
    assert_eq!(runs, 0, "second charges, of 8 keys");
}

#[idempotent(name = "gone-at-once", ttl = "5ms", in_flight = "wait", wait = "1h")]
async fn gone_at_once(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

/// The same, of the shortest life.
#[tokio::test(start_paused = true)]
async fn waiter_for_an_answer_of_milliseconds_does_not_run() {
    let store = FaultyStore::new(MemoryStore::new()).without_notifications();
    let routes = || -> Router<App> { Router::new().route("/", post(gone_at_once)) };
    let process = || Local::with(builder_on(store.clone()), routes());
    let (owner, other) = (process(), process());
    for key in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        let first = owner.spawn("/", key);
        owner.probe.started().await;
        let waiter = other.spawn("/", key);
        sleep(Duration::from_secs(10)).await;
        owner.probe.open();
        first.await.unwrap();
        other.probe.open();
        waiter.await.unwrap();
    }
    assert_eq!(other.probe.runs(), 0, "second charges, of 8 keys");
}

/// A process whose renewals the store refuses, and another one on the same store.
struct Two {
    store: FaultyStore,
    owner: Local,
    other: Local,
}

/// The first one's handler runs, and its lease of a second has just ended.
async fn owner_whose_lease_has_ended(routes: fn() -> Router<App>, key: &'static str) -> Two {
    let store = FaultyStore::new(MemoryStore::new());
    let process = || Local::with(builder_on(store.clone()), routes());
    let (owner, other) = (process(), process());
    let refused = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(10_000, Operation::Renew, refused);
    let first = owner.spawn("/short", key);
    owner.probe.started().await;
    sleep(Duration::from_millis(1_200)).await;
    // It is answered when its handler is let through.
    drop(first);
    other.probe.open();
    Two {
        store,
        owner,
        other,
    }
}

#[idempotent(name = "short", ttl = "1s", lease = "1s", on_abandoned = "retry")]
async fn short_retry(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent(
    name = "short",
    ttl = "1s",
    lease = "1s",
    on_abandoned = "retry",
    key_age = "ttl"
)]
async fn short_retry_by_age(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent(name = "short", ttl = "5s", lease = "1s", on_abandoned = looks_for_ten_seconds)]
async fn short_recover(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

/// Nothing was done when it looked.
async fn looks_for_ten_seconds(_: Abandoned) -> Recovery {
    sleep(Duration::from_secs(10)).await;
    Recovery::Retry
}

/// The owner is alive, and answers within the grace that it is given. The retry, which was there before that answer, must not
/// run, as a waiter must not.
#[tokio::test(start_paused = true)]
async fn owner_that_answers_within_the_grace_is_not_run_again_after_a_ttl_that_is_shorter() {
    let routes = || Router::new().route("/short", post(short_retry));
    let two = owner_whose_lease_has_ended(routes, "key").await;
    let retry = two.other.spawn("/short", "key");
    sleep(Duration::from_millis(300)).await;
    two.owner.probe.open();
    let retry = retry.await.unwrap();
    assert_eq!(
        two.store.calls(Operation::Complete),
        two.other.probe.runs() + 1
    );
    assert_eq!(two.other.probe.runs(), 0, "a second charge: {retry:?}");
}

/// The same, where the key says that it is older than the TTL: "a retry that comes too late does not run again".
#[tokio::test(start_paused = true)]
async fn key_that_is_too_old_does_not_run_after_the_grace() {
    let routes = || Router::new().route("/short", post(short_retry_by_age));
    let key: &'static str = uuid_v7(SystemTime::now()).leak();
    let two = owner_whose_lease_has_ended(routes, key).await;
    // The key's age is by the system's clock, which does not stand still.
    std::thread::sleep(Duration::from_millis(1_100));
    let retry = two.other.spawn("/short", key);
    sleep(Duration::from_millis(300)).await;
    two.owner.probe.open();
    let retry = retry.await.unwrap();
    assert_eq!(two.other.probe.runs(), 0, "a second charge: {retry:?}");
}

/// The owner is alive, and answers while a recovery function looks, for longer than the answer lives.
#[tokio::test(start_paused = true)]
async fn owner_that_answers_while_it_is_looked_for_is_not_run_again() {
    let routes = || Router::new().route("/short", post(short_recover));
    let two = owner_whose_lease_has_ended(routes, "key").await;
    let retry = two.other.spawn("/short", "key");
    sleep(Duration::from_secs(4)).await;
    two.owner.probe.open();
    let retry = retry.await.unwrap();
    assert_eq!(two.other.probe.runs(), 0, "a second charge: {retry:?}");
}

#[idempotent(
    name = "aged",
    ttl = "2s",
    key_age = "ttl",
    in_flight = "wait",
    wait = "1h"
)]
async fn aged(State(probe): State<Probe>) -> Result<String, Release<String>> {
    match probe.run_gated().await {
        1 => Err(Release("nothing happened".to_owned())),
        run => Ok(run.to_string()),
    }
}

/// "A key that is older than the TTL and has no record is answered 400 `key-expired`, and nothing runs": a waiter's has none
/// any more.
#[tokio::test]
async fn key_that_is_too_old_does_not_run_after_a_release() {
    let routes: Router<App> = Router::new().route("/", post(aged));
    let local = Local::with(builder_on(MemoryStore::new()), routes);
    let key: &'static str = uuid_v7(SystemTime::now()).leak();
    let first = local.spawn("/", key);
    local.probe.started().await;
    sleep(Duration::from_millis(2_500)).await;
    let late = local.spawn("/", key);
    sleep(Duration::from_millis(100)).await;
    local.probe.open();
    first.await.unwrap();
    local.probe.open();
    let late = late.await.unwrap();
    assert_eq!((local.probe.runs(), late.code()), (1, Some("key-expired")));
}
