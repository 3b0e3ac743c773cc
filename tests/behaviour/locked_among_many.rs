//! One record whose renewal hangs, among many: no other lease ends. And how often one is renewed that gets no reply.

use std::collections::HashMap;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{Store as _, StoreErrorKind};
use idempotent_runtime::{Idempotency, RecordState, idempotent};
use tokio::time::sleep;

use crate::support::{App, Fault, FaultyStore, Local, Operation, Probe, builder_on};

#[idempotent(name = "three", lease = "2700ms")]
async fn three(State(probe): State<Probe>) -> String {
    probe.run();
    std::future::pending().await
}

#[idempotent(name = "tenth", lease = "100ms")]
async fn tenth(State(probe): State<Probe>) -> String {
    probe.run();
    std::future::pending().await
}

/// While no renewal is answered, how many are sent for one lease in the last of some windows of 10 s.
async fn sent_in_silence(path: &'static str) -> Vec<usize> {
    let store = FaultyStore::new(MemoryStore::new());
    let routes: Router<App> = Router::new()
        .route("/three", post(three))
        .route("/tenth", post(tenth));
    let builder = Idempotency::builder(store.clone()).store_timeout(Duration::from_secs(5));
    let local = Local::with(builder.secret_check(false), routes);
    let running = local.spawn(path, "key");
    local.probe.started().await;
    store.script_times(200_000, Operation::Renew, Fault::Swallowed);
    let mut sent = Vec::new();
    for _ in 0..12 {
        let before = store.calls(Operation::Renew);
        sleep(Duration::from_secs(10)).await;
        sent.push(store.calls(Operation::Renew) - before);
    }
    drop(running);
    sent
}

/// One for each gap.
#[tokio::test(start_paused = true)]
async fn renewals_that_hang_do_not_become_more_and_more() {
    let three = sent_in_silence("/three").await;
    let tenth = sent_in_silence("/tenth").await;
    assert!(three.iter().all(|sent| *sent <= 13), "{three:?}");
    assert!(tenth.iter().all(|sent| *sent <= 320), "{tenth:?}");
}

#[idempotent(name = "long", lease = "30s")]
async fn long(State(probe): State<Probe>) -> String {
    probe.run();
    std::future::pending().await
}

/// Of how many leases it happens that they are not renewed for so long that they are taken over.
async fn lapsed(path: &'static str, count: usize, faults: impl Fn(&FaultyStore)) -> (usize, usize) {
    lapsed_within(Duration::from_secs(2), path, count, faults).await
}

async fn lapsed_within(
    store_timeout: Duration,
    path: &'static str,
    count: usize,
    faults: impl Fn(&FaultyStore),
) -> (usize, usize) {
    let store = FaultyStore::new(MemoryStore::new());
    let routes: Router<App> = Router::new()
        .route("/long", post(long))
        .route("/one", post(one))
        .route("/five", post(five))
        .route("/ten", post(ten))
        .route("/tenth", post(tenth));
    let local = Local::with(
        builder_on(store.clone()).store_timeout(store_timeout),
        routes,
    );
    let mut keys = Vec::new();
    let mut running = Vec::new();
    for n in 0..count {
        let (local, key) = (local.clone(), n.to_string());
        let started = local.clone();
        running.push(tokio::spawn(async move { local.post(path, &key).await }));
        started.probe.started().await;
        keys.push(store.claimed());
    }
    store.lock(keys[count / 2]);
    let locked = keys.swap_remove(count / 2);
    faults(&store);
    let mut since: HashMap<_, usize> = HashMap::new();
    let mut lapsed = 0;
    for _ in 0..360 {
        sleep(Duration::from_millis(250)).await;
        for key in &keys {
            assert_ne!(*key, locked);
            let record = store.get(key).await.unwrap().unwrap();
            match record.state {
                RecordState::Abandoned => {
                    let since = since.entry(*key).or_default();
                    *since += 1;
                    // 2.5 s is the grace period.
                    lapsed += usize::from(*since == 12);
                }
                _ => drop(since.remove(key)),
            }
        }
    }
    let calls = store.calls(Operation::Renew);
    for task in running {
        task.abort();
    }
    (lapsed, calls)
}

/// "A locked row never delays another's."
#[tokio::test(start_paused = true)]
async fn one_locked_record_ends_no_other_lease() {
    let lapsed = lapsed("/long", 1_000, |_| ()).await;
    assert_eq!(lapsed.0, 0);
}

#[tokio::test(start_paused = true)]
async fn one_locked_record_ends_no_short_lease() {
    let lapsed = lapsed("/tenth", 300, |_| ()).await;
    assert_eq!(lapsed.0, 0);
}

#[idempotent(name = "one", lease = "1s")]
async fn one(State(probe): State<Probe>) -> String {
    probe.run();
    std::future::pending().await
}

#[idempotent(name = "five", lease = "5s")]
async fn five(State(probe): State<Probe>) -> String {
    probe.run();
    std::future::pending().await
}

#[idempotent(name = "ten", lease = "10s")]
async fn ten(State(probe): State<Probe>) -> String {
    probe.run();
    std::future::pending().await
}

#[tokio::test(start_paused = true)]
async fn one_locked_record_ends_no_lease_of_a_second() {
    let lapsed = lapsed("/one", 300, |_| ()).await;
    assert_eq!(lapsed.0, 0, "{lapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn one_locked_record_ends_no_lease_of_five_seconds() {
    let lapsed = lapsed("/five", 300, |_| ()).await;
    assert_eq!(lapsed.0, 0, "{lapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn one_locked_record_ends_no_lease_of_ten_seconds() {
    let lapsed = lapsed("/ten", 300, |_| ()).await;
    assert_eq!(lapsed.0, 0, "{lapsed:?}");
}

#[idempotent(name = "pay", on_abandoned = "retry", lease = "1s")]
async fn pay(State(probe): State<Probe>) -> String {
    let run = probe.run();
    sleep(Duration::from_secs(3600)).await;
    run.to_string()
}

/// The owner is alive, and every call but those with the locked record works: one payment.
#[tokio::test(start_paused = true)]
async fn one_locked_record_charges_no_other_twice() {
    let store = FaultyStore::new(MemoryStore::new());
    let local = || {
        let routes: Router<App> = Router::new().route("/pay", post(pay));
        Local::with(builder_on(store.clone()), routes)
    };
    let (owner, other) = (local(), local());
    let mut keys = Vec::new();
    for n in 0..300 {
        let (local, key) = (owner.clone(), n.to_string());
        tokio::spawn(async move { local.post("/pay", &key).await });
        owner.probe.started().await;
        keys.push(store.claimed());
    }
    store.lock(keys[150]);
    sleep(Duration::from_secs(8)).await;
    // Each client but that one asks again.
    for n in (0..300).filter(|n| *n != 150) {
        let (local, key) = (other.clone(), n.to_string());
        tokio::spawn(async move { local.post("/pay", &key).await });
    }
    sleep(Duration::from_secs(20)).await;
    assert_eq!(other.probe.runs(), 0, "payments that were made twice");
}

#[tokio::test(start_paused = true)]
async fn calls_that_fail_fast_among_those_that_hang_end_no_lease() {
    let half = |store: &FaultyStore| {
        for _ in 0..1_500 {
            store.script(Operation::Renew, Fault::Refused(StoreErrorKind::Busy));
            store.script(Operation::Renew, Fault::Works);
        }
    };
    let lapsed = lapsed("/long", 200, half).await;
    assert_eq!(lapsed.0, 0);
}

/// The default lease, and a timeout that is longer than the default.
#[tokio::test(start_paused = true)]
async fn one_locked_record_ends_no_other_lease_with_a_longer_time_out() {
    let lapsed = lapsed_within(Duration::from_secs(5), "/long", 1_000, |_| ()).await;
    assert_eq!(lapsed.0, 0, "{lapsed:?}");
}
