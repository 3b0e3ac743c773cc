//! Leases are kept while a handler runs, whatever happens around it.
//!
//! On tokio's paused clock, which the leases, their renewal and the store all follow.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Attempt, Idempotency, idempotent};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::support::{App, Fault, FaultyStore, Local, Operation, Probe, Reply, builder_on};

const LEASE: Duration = Duration::from_secs(30);

#[idempotent]
async fn quick() -> &'static str {
    "done"
}

/// A request that found the lease at an end would run it again.
#[idempotent(on_abandoned = "retry")]
async fn long(attempt: Attempt, State(probe): State<Probe>) -> String {
    probe.run();
    sleep(10 * LEASE).await;
    format!("attempt {}", attempt.number())
}

#[idempotent(lease = "2s", on_abandoned = "retry")]
async fn short_lease(State(probe): State<Probe>) -> &'static str {
    probe.run();
    sleep(LEASE).await;
    "done"
}

fn routes() -> Router<App> {
    Router::new()
        .route("/quick", post(quick))
        .route("/long", post(long))
        .route("/short-lease", post(short_lease))
}

/// Begins a handler of ten leases.
async fn begin(local: &Local) -> JoinHandle<Reply> {
    let first = local.spawn("/long", "key");
    local.probe.started().await;
    first
}

/// Sees after each lease that the handler is still taken for running, and then that it is done.
async fn assert_kept(local: &Local, first: JoinHandle<Reply>) {
    for _ in 0..9 {
        sleep(LEASE).await;
        let duplicate = local.post("/long", "key").await;
        duplicate.assert_problem(409, "in-flight");
    }
    let first = first.await.unwrap();
    assert_eq!((first.status, first.text()), (200, "attempt 1"));
    let replay = local.post("/long", "key").await;
    replay.assert_replay_of(&first);
}

async fn assert_keeps(local: &Local) {
    assert_kept(local, begin(local).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_longer_than_its_lease_keeps_it() {
    assert_keeps(&Local::new(MemoryStore::new(), routes())).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_or_panicking_renewal_is_made_up_for() {
    let away = Fault::Refused(idempotent_runtime::store::StoreErrorKind::Unavailable);
    let panics = [Fault::Panics, Fault::PanicsBeforeItsFuture];
    for fault in [away, Fault::ReplyLost].into_iter().chain(panics) {
        let store = FaultyStore::new(MemoryStore::new());
        store.script(Operation::Renew, fault);
        assert_keeps(&Local::new(store, routes())).await;
    }
}

/// However patient the application is with its store.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_leaves_time_for_another() {
    let store = FaultyStore::new(MemoryStore::new());
    store.script(Operation::Renew, Fault::Swallowed);
    let builder = Idempotency::builder(store).store_timeout(LEASE);
    assert_keeps(&Local::with(builder, routes())).await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_leaves_time_for_another_in_a_short_lease() {
    let store = FaultyStore::new(MemoryStore::new());
    store.script(Operation::Renew, Fault::Swallowed);
    assert_keeps_a_short_one(&Local::new(store, routes())).await;
}

/// The same of a handler of fifteen leases of two seconds.
async fn assert_keeps_a_short_one(local: &Local) {
    let first = local.spawn("/short-lease", "key");
    local.probe.started().await;
    for _ in 0..20 {
        sleep(Duration::from_millis(500)).await;
        let duplicate = local.post("/short-lease", "key").await;
        duplicate.assert_problem(409, "in-flight");
    }
    assert_eq!(first.await.unwrap().text(), "done");
}

/// No task looks at leases while there are none.
#[tokio::test(start_paused = true)]
async fn a_lease_that_begins_after_there_was_none_for_long_is_kept() {
    let local = Local::new(MemoryStore::new(), routes());
    for round in 0..2 {
        let quick = local.post("/quick", &format!("before-{round}")).await;
        assert_eq!(quick.text(), "done");
        sleep(2 * LEASE).await;
    }
    assert_keeps(&local).await;
}

/// The next look was planned for later.
#[tokio::test(start_paused = true)]
async fn a_lease_that_is_due_before_those_there_are_is_kept() {
    let local = Local::new(MemoryStore::new(), routes());
    let long = begin(&local).await;
    sleep(Duration::from_secs(1)).await;
    assert_keeps_a_short_one(&local).await;
    drop(long);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_due_before_a_quick_handlers_was_is_kept() {
    let local = Local::new(MemoryStore::new(), routes());
    assert_eq!(local.post("/quick", "before").await.text(), "done");
    sleep(Duration::from_secs(1)).await;
    assert_keeps_a_short_one(&local).await;
}

/// As servers have that run a runtime on each of their threads.
fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap()
}

#[test]
fn a_runtime_that_is_gone_takes_no_leases_with_it() {
    let local = Local::new(MemoryStore::new(), routes());
    let first = runtime();
    let quick = first.block_on(local.post("/quick", "first-claim"));
    assert_eq!(quick.text(), "done");
    let second = runtime();
    second.block_on(async {
        let running = begin(&local).await;
        std::thread::spawn(move || drop(first)).join().unwrap();
        assert_kept(&local, running).await;
    });
}

#[test]
fn a_runtime_that_stands_still_holds_up_no_leases_of_another() {
    let local = Local::new(MemoryStore::new(), routes());
    let first = runtime();
    let quick = first.block_on(local.post("/quick", "first-claim"));
    assert_eq!(quick.text(), "done");
    // From here on nothing runs on the first one.
    runtime().block_on(assert_keeps(&local));
    drop(first);
}

/// Its handler leaves something running that knows its attempt, and never ends.
#[idempotent(lease = "3s", ttl = "1s")]
async fn outlived(attempt: Attempt, State(probe): State<Probe>) -> String {
    tokio::spawn(async move {
        std::future::pending::<()>().await;
        drop(attempt);
    });
    probe.run().to_string()
}

#[tokio::test(start_paused = true)]
async fn attempt_that_outlives_its_handler_holds_no_key() {
    let routes = Router::new().route("/outlived", post(outlived));
    let local = Local::new(MemoryStore::new(), routes);
    assert_eq!(local.post("/outlived", "key").await.text(), "1");
    sleep(Duration::from_secs(10)).await;
    let later = local.post("/outlived", "key").await;
    assert_eq!((later.status, later.text()), (200, "2"));
}

/// It is claimed again, which renews nothing where it is still there: the lease ended, and another attempt ran.
#[tokio::test(start_paused = true)]
async fn lease_that_the_store_denies_is_renewed_after_it_is_claimed_again() {
    let store = FaultyStore::new(MemoryStore::new());
    let local = Local::with(builder_on(store.clone()), routes());
    store.script(Operation::Renew, Fault::Denied);
    let _running = begin(&local).await;
    // A third of the lease, and a pause.
    sleep(LEASE / 3 + Duration::from_secs(2)).await;
    assert_eq!(store.calls(Operation::Claim), 2);
    assert_eq!(store.calls(Operation::Renew), 2);
}

#[idempotent(lease = "4s", ttl = "1s")]
async fn short_lived(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

/// The lease of a key whose response has expired before the store's reply is here, or before the record of another secret
/// has it, was found lost, and the key claimed again for an attempt that was done.
#[tokio::test(start_paused = true)]
async fn response_that_expires_while_it_is_stored_holds_no_key() {
    let on_its_way = [
        (&["only"][..], &[Fault::ReplyWaits][..]),
        (&["new", "old"], &[Fault::Works, Fault::Waits]),
    ];
    for (secrets, completions) in on_its_way {
        let store = FaultyStore::new(MemoryStore::new());
        for fault in completions {
            store.script(Operation::Complete, *fault);
        }
        let builder = builder_on(store.clone())
            .secret(secrets[0])
            .previous_secrets(secrets[1..].to_vec())
            .store_timeout(Duration::from_secs(10));
        let routes = Router::new().route("/short-lived", post(short_lived));
        let local = Local::with(builder, routes);
        let first = local.spawn("/short-lived", "key");
        store.waiting().await;
        sleep(Duration::from_secs(3)).await;
        store.proceed();
        assert_eq!(first.await.unwrap().text(), "1");
        // What is stored is not renewed, nor found lost.
        assert_eq!(store.calls(Operation::Claim), 2);
        sleep(Duration::from_secs(2)).await;
        let later = local.post("/short-lived", "key").await;
        assert_eq!((later.status, later.text()), (200, "2"), "{secrets:?}");
    }
}

/// What nothing would renew is not claimed: the request panics, as all that needs tokio does.
#[test]
fn request_without_a_runtime_claims_nothing() {
    let memory = Arc::new(MemoryStore::new());
    let routes = Router::new().route("/quick", post(quick));
    let local = Local::new(Arc::clone(&memory), routes);
    let polled = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let mut request = pin!(local.post("/quick", "key"));
        let mut context = Context::from_waker(Waker::noop());
        request.as_mut().poll(&mut context).is_ready()
    }));
    assert!(polled.is_err());
    assert!(memory.is_empty());
}
