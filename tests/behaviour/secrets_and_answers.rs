//! While a secret is rotated, an answer under any of a request's records is the answer, and what runs under any of them is
//! waited for without asking the others.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{
    Abandoned, IdempotencyBuilder, Locator, Recovery, Resolution, StoredResponse, idempotent,
};
use tokio::time::sleep;

use crate::support::{App, Fault, FaultyStore, LEASE, Local, Operation, Probe, builder_on};

type Setting = fn(IdempotencyBuilder) -> IdempotencyBuilder;

const BOTH: Setting = |it| it.secret("new").previous_secrets(["old"]);
const NEW: Setting = |it| it.secret("new");
const OLD: Setting = |it| it.secret("old");

#[idempotent(lease = "30s")]
async fn rejects(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent(lease = "30s", on_abandoned = finds_another)]
async fn asks(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

async fn finds_another(_: Abandoned) -> Recovery {
    let found = StoredResponse::new(StatusCode::OK, HeaderMap::new(), "another");
    Recovery::Replay(found)
}

/// An operator whose tool knows the new secret alone decides about a key that has crashed under both.
async fn a_decision_under_the_new_secret_is_the_answer(path: &'static str) {
    let routes = || {
        let routes = Router::<App>::new().route("/rejects", post(rejects));
        routes.route("/asks", post(asks))
    };
    let store = Arc::new(FaultyStore::new(MemoryStore::new()));
    let builder = || builder_on(Arc::clone(&store));
    let crashed = Local::with(BOTH(builder()), routes());
    let _never = crashed.spawn(path, "key");
    crashed.probe.started().await;
    store.script_times(1000, Operation::Renew, Fault::Swallowed);
    sleep(LEASE + Duration::from_secs(1)).await;

    let new = Local::with(NEW(builder()), routes());
    let both = Local::with(BOTH(builder()), routes());
    let found = StoredResponse::new(StatusCode::CREATED, HeaderMap::new(), "found");
    let locator = Locator::new(format!("POST {path}"), "key");
    let resolved = new.idempotency.resolve(&locator, Recovery::Replay(found));
    assert!(matches!(resolved.await, Ok(Resolution::Resolved)));
    for instance in [&new, &both, &new, &both] {
        let answer = instance.post(path, "key").await;
        assert_eq!((answer.status, answer.text()), (201, "found"));
    }
    assert_eq!((new.probe.runs(), both.probe.runs()), (0, 0));
    let seen = both.idempotency.inspect(&locator).await.unwrap().unwrap();
    assert!(matches!(
        seen.state,
        idempotent_runtime::RecordState::Completed(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_decision_under_the_new_secret_is_the_answer_of_an_instance_with_both() {
    a_decision_under_the_new_secret_is_the_answer("/rejects").await;
}

/// Its recovery function is not asked.
#[tokio::test(start_paused = true)]
async fn a_decision_under_the_new_secret_comes_before_a_recovery_function() {
    a_decision_under_the_new_secret_is_the_answer("/asks").await;
}

#[idempotent(lease = "30s", in_flight = "wait", wait = "10s")]
async fn waits(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

/// How often the store is asked within 5 s.
async fn calls_of_waiters(waiters: usize, running: Setting) -> usize {
    let routes = || Router::<App>::new().route("/", post(waits));
    let store = Arc::new(FaultyStore::new(MemoryStore::new()).slow(Duration::from_millis(5)));
    let builder = || builder_on(Arc::clone(&store));
    let first = Local::with(running(builder()), routes());
    let second = Local::with(BOTH(builder()), routes());
    let running = first.spawn("/", "key");
    first.probe.started().await;
    let waiting: Vec<_> = (0..waiters).map(|_| second.spawn("/", "key")).collect();
    sleep(Duration::from_secs(5)).await;
    let all = [Operation::Claim, Operation::Release, Operation::Get];
    let calls = all.into_iter().map(|it| store.calls(it)).sum();
    first.probe.open();
    running.await.unwrap();
    for waiter in waiting {
        assert_eq!(waiter.await.unwrap().text(), "1");
    }
    calls
}

/// The key runs on an instance that knows the new secret alone: its waiters must not wake each other by the older record.
#[tokio::test(start_paused = true)]
async fn waiters_ask_the_store_in_proportion_to_their_number() {
    for waiters in [2, 20, 100] {
        let calls = calls_of_waiters(waiters, NEW).await;
        assert!(calls <= 20 * waiters, "{calls} calls of {waiters} waiters");
    }
}

/// The first record is completed at once, and the completion of the other one gets no reply.
#[tokio::test(start_paused = true)]
async fn waiter_is_answered_from_the_first_record_that_is_completed() {
    let store = FaultyStore::new(MemoryStore::new());
    let routes: Router<App> = Router::new().route("/", post(waits));
    let local = Local::with(BOTH(builder_on(store.clone())), routes);
    let first = local.spawn("/", "key");
    local.probe.started().await;
    let waiter = local.spawn("/", "key");
    sleep(Duration::from_secs(1)).await;
    store.script(Operation::Complete, Fault::Works);
    store.script_times(20, Operation::Complete, Fault::Swallowed);
    let begun = tokio::time::Instant::now();
    local.probe.open();
    assert_eq!(waiter.await.unwrap().text(), "1");
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(first.await.unwrap().text(), "1");
}

/// What is wrong with one record says nothing about the other.
#[tokio::test(start_paused = true)]
async fn unreadable_record_beside_an_abandoned_one_is_no_answer() {
    let routes = || Router::<App>::new().route("/", post(rejects));
    let store = Arc::new(FaultyStore::new(MemoryStore::new()));
    let crashed = Local::with(BOTH(builder_on(Arc::clone(&store))), routes());
    let _never = crashed.spawn("/", "key");
    crashed.probe.started().await;
    store.script_times(1000, Operation::Renew, Fault::Swallowed);
    sleep(LEASE + Duration::from_secs(1)).await;
    let instance = Local::with(BOTH(builder_on(Arc::clone(&store))), routes());
    let corrupt = Fault::Refused(idempotent_runtime::store::StoreErrorKind::Corrupt);
    store.script(Operation::Get, corrupt);
    let answer = instance.post("/", "key").await;
    answer.assert_problem(409, "outcome-unknown");
}

#[idempotent(lease = "30s", on_abandoned = "retry", name = "retries")]
async fn retries(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent(
    lease = "30s",
    on_abandoned = "retry",
    in_flight = "wait",
    wait = "10s",
    name = "retries"
)]
async fn waits_and_retries(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

/// The abandoned record was taken over by each request, only to be given back as another attempt's.
#[tokio::test(start_paused = true)]
async fn abandoned_record_is_not_taken_over_while_another_one_runs() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new()));
    let with = |setting: Setting, handler| {
        let routes = Router::<App>::new().route("/", handler);
        Local::with(setting(builder_on(Arc::clone(&store))), routes)
    };
    let crashed = with(OLD, post(retries));
    let _never = crashed.spawn("/", "key");
    crashed.probe.started().await;
    store.script_times(1000, Operation::Renew, Fault::Swallowed);
    sleep(LEASE + Duration::from_secs(1)).await;
    let new = with(NEW, post(retries));
    let running = new.spawn("/", "key");
    new.probe.started().await;

    let both = with(BOTH, post(retries));
    for _ in 0..5 {
        let retry = both.post("/", "key").await;
        retry.assert_problem(409, "in-flight");
    }
    let waiting = with(BOTH, post(waits_and_retries));
    let waiter = waiting.spawn("/", "key");
    sleep(Duration::from_secs(5)).await;
    let asked = [
        Operation::Claim,
        Operation::Abandon,
        Operation::GiveGrace,
        Operation::Get,
    ];
    let calls: usize = asked.into_iter().map(|it| store.calls(it)).sum();
    assert!(calls <= 60, "{calls} calls");
    assert_eq!(store.calls(Operation::Abandon), 0);
    new.probe.open();
    let first = running.await.unwrap();
    waiter.await.unwrap().assert_replay_of(&first);
}
