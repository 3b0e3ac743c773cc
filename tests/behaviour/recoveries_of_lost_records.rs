//! What a recovery function decides about a record that changes or goes meanwhile.

use std::time::Duration;

use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Locator, Recovery, Resolution};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::recoveries::{Bank, found, routes};
use crate::support::{Fault, FaultyStore, LEASE, Local, Operation, Reply, builder_on};

/// Its lease has ended, and none of its renewals arrives.
async fn lapsed(store: &FaultyStore) -> (Local, JoinHandle<Reply>) {
    let process = Local::new(store.clone(), routes());
    let request = process.spawn("/pay", "key");
    process.probe.started().await;
    store.script_times(1000, Operation::Renew, Fault::Swallowed);
    sleep(LEASE + Duration::from_secs(1)).await;
    (process, request)
}

/// A request whose lease has ended though its process lives, and another process.
struct Scene {
    bank: Bank,
    store: FaultyStore,
    local: Local,
    _first: (Local, JoinHandle<Reply>),
}

impl Scene {
    async fn new(says: fn(usize) -> Recovery) -> Self {
        let bank = Bank::new(says);
        let store = FaultyStore::new(MemoryStore::new());
        let first = lapsed(&store).await;
        let builder = builder_on(store.clone()).extension(bank.clone());
        Self {
            bank,
            store,
            local: Local::with(builder, routes()),
            _first: first,
        }
    }
}

/// A function looks at attempt 1. An operator frees the key, and a retry runs and crashes: attempt 1 again, of another record.
#[tokio::test(start_paused = true)]
async fn a_finding_is_not_about_a_later_record_of_the_key() {
    let scene = Scene::new(|_| Recovery::Retry).await;
    let Scene {
        bank, store, local, ..
    } = &scene;
    let asking = local.spawn("/pay", "key");
    bank.asked.started().await;
    let locator = Locator::new("POST /pay", "key");
    let freed = local.idempotency.resolve(&locator, Recovery::Retry);
    assert!(matches!(freed.await, Ok(Resolution::Resolved)));
    let _second = lapsed(store).await;
    // For each crash once.
    bank.asked.open();
    bank.asked.open();
    local.probe.open();
    let answer = asking.await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "1"));
    assert_eq!(bank.asked.runs(), 2, "asked about the second crash");
}

/// A claim that was lost arrived late and was then given back, or a store has lost what it had: the claim of a request that
/// has decided about it is a first one, and nothing has run under it.
#[tokio::test(start_paused = true)]
async fn who_has_decided_about_a_record_that_is_gone_runs() {
    let scene = Scene::new(|_| Recovery::Retry).await;
    let Scene {
        bank, store, local, ..
    } = &scene;
    let asking = local.spawn("/pay", "key");
    bank.asked.started().await;
    store.forget_claimed().await;
    bank.asked.open();
    local.probe.open();
    let answer = asking.await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "1"));
    local.post("/pay", "key").await.assert_replay_of(&answer);
    assert_eq!((local.probe.runs(), bank.asked.runs()), (1, 1));
}

/// What the bank has done is not done again because the store has lost its record.
#[tokio::test(start_paused = true)]
async fn what_was_found_about_a_record_that_is_gone_is_the_answer() {
    for leaves in [false, true] {
        let scene = Scene::new(found).await;
        let Scene {
            bank, store, local, ..
        } = &scene;
        let asking = local.spawn("/pay", "key");
        bank.asked.started().await;
        if leaves {
            asking.abort();
            local.pending(1).await;
        }
        store.forget_claimed().await;
        bank.asked.open();
        local.pending(0).await;
        if !leaves {
            assert_eq!(asking.await.unwrap().text(), "found");
        }
        let retry = local.post("/pay", "key").await;
        assert_eq!((retry.text(), retry.is_replay()), ("found", true));
        assert_eq!((local.probe.runs(), bank.asked.runs()), (0, 1));
    }
}

/// Its caller leaves in the grace period, and the record with it: what is then claimed on its behalf is given back.
#[tokio::test(start_paused = true)]
async fn who_leaves_before_a_record_is_gone_abandons_nothing() {
    let scene = Scene::new(|_| Recovery::Unknown).await;
    let Scene {
        bank, store, local, ..
    } = &scene;
    let leaving = local.spawn("/pay", "key");
    while store.calls(Operation::GiveGrace) == 0 {
        tokio::task::yield_now().await;
    }
    leaving.abort();
    store.forget_claimed().await;
    local.pending(0).await;
    local.probe.open();
    let retry = local.post("/pay", "key").await;
    assert_eq!((retry.status, retry.text()), (200, "1"));
    assert_eq!(bank.asked.runs(), 0);
}

/// A grace period that began between the end of the function and the take-over kept what was found from being stored.
#[tokio::test(start_paused = true)]
async fn a_retry_before_a_finding_is_stored_does_not_hold_it_up() {
    let scene = Scene::new(found).await;
    let Scene {
        bank, store, local, ..
    } = &scene;
    bank.asked.open();
    // That it is abandoned, and then its take-over, which takes a moment.
    store.script(Operation::Claim, Fault::Works);
    store.script(Operation::Claim, Fault::Waits);
    let asking = local.spawn("/pay", "key");
    store.waiting().await;
    let retry = local.spawn("/pay", "key");
    sleep(Duration::from_millis(100)).await;
    store.proceed();
    assert_eq!(asking.await.unwrap().text(), "found");
    retry.await.unwrap().assert_problem(409, "in-flight");
    assert_eq!(bank.asked.runs(), 1);
}
