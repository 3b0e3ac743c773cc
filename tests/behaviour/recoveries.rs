//! A recovery function may take long, or hang. At most one of them decides about a record in a process; other requests with the key are
//! in flight meanwhile.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use idempotent_runtime::store::Store;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{
    Abandoned, Execution, IdempotencyBuilder, OnAbandoned, Policy, Recovery, StoredResponse,
    idempotent,
};
use tokio::time::{Instant, sleep};

use crate::support::{
    App, Crashes, Fault, FaultyStore, LEASE, Local, Operation, Probe, builder_on, take_over,
};

/// What a recovery function asks: it answers when the test lets it through.
#[derive(Clone)]
pub(crate) struct Bank {
    pub(crate) asked: Probe,
    says: fn(usize) -> Recovery,
}

impl Bank {
    pub(crate) fn new(says: fn(usize) -> Recovery) -> Self {
        let asked = Probe::default();
        Self { asked, says }
    }
}

pub(crate) fn found(_: usize) -> Recovery {
    Recovery::Replay(StoredResponse::new(
        StatusCode::CREATED,
        HeaderMap::new(),
        "found",
    ))
}

async fn look(abandoned: Abandoned) -> Recovery {
    let bank: Bank = abandoned.extension::<Bank>().unwrap().clone();
    (bank.says)(bank.asked.run_gated().await)
}

#[idempotent(on_abandoned = look, lease = "30s")]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent(on_abandoned = look, lease = "30s", in_flight = "wait", wait = "10s")]
async fn patient(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/pay", post(pay))
        .route("/patient", post(patient))
}

/// A key whose process has crashed, and another process, which asks this bank.
fn crashed(path: &'static str, bank: &Bank) -> (Crashes, Local) {
    let crashes = Crashes::new();
    crashes.crash_at(routes(), path);
    let local = Local::with(crashes.builder().extension(bank.clone()), routes());
    (crashes, local)
}

/// Each retry began the function once more, without end where it hangs.
#[tokio::test]
async fn one_function_at_a_time_decides_about_a_record() {
    let bank = Bank::new(found);
    let (_crashes, local) = crashed("/pay", &bank);
    let impatient = local.spawn("/pay", "key");
    bank.asked.started().await;
    for is_there in [true, false] {
        if !is_there {
            impatient.abort();
            local.pending(1).await;
        }
        for _ in 0..20 {
            let meanwhile = local.post("/pay", "key").await;
            meanwhile.assert_problem(409, "in-flight");
            assert_eq!(meanwhile.header("retry-after"), Some("1"));
        }
    }
    assert_eq!(bank.asked.runs(), 1);
    bank.asked.open();
    local.pending(0).await;
    let retry = local.post("/pay", "key").await;
    assert_eq!((retry.text(), retry.is_replay()), ("found", true));
    assert_eq!(bank.asked.runs(), 1);
}

/// Each retry gave the owner another grace period, in which what the function had found could not be stored.
#[tokio::test(start_paused = true)]
async fn retries_do_not_keep_a_finding_from_being_stored() {
    let bank = Bank::new(found);
    let store = FaultyStore::new(MemoryStore::new());
    let owner = Local::new(store.clone(), routes());
    let _never = owner.spawn("/pay", "key");
    owner.probe.started().await;
    store.script_times(1000, Operation::Renew, Fault::Swallowed);
    sleep(LEASE + Duration::from_secs(1)).await;
    let builder = builder_on(store.clone()).extension(bank.clone());
    let local = Local::with(builder, routes());
    let first = local.spawn("/pay", "key");
    bank.asked.started().await;
    for _ in 0..5 {
        let asked_at = Instant::now();
        let retry = local.post("/pay", "key").await;
        retry.assert_problem(409, "in-flight");
        assert_eq!(asked_at.elapsed(), Duration::ZERO);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(store.calls(Operation::GiveGrace), 1);
    bank.asked.open();
    let first = first.await.unwrap();
    assert_eq!((first.status, first.text()), (201, "found"));
}

#[tokio::test]
async fn a_function_without_http_is_in_flight_meanwhile() {
    const RECOVER: Policy = Policy::new()
        .on_abandoned(OnAbandoned::Recover(|abandoned| Box::pin(look(abandoned))))
        .name("settle");
    let bank = Bank::new(|_| Recovery::Replay(StoredResponse::of_value(&42).unwrap()));
    let crashes = Crashes::new();
    let handle = crashes.builder().extension(bank.clone()).build();
    let execute = |fails: bool| {
        let handle = handle.clone();
        tokio::spawn(async move {
            let function = move || async move {
                assert!(!fails, "it crashes");
                Ok::<_, idempotent_runtime::ExecuteError>(1)
            };
            handle
                .execute(&RECOVER, "settle", (), "key", &(), function)
                .await
        })
    };
    assert!(execute(true).await.is_err());
    let first = execute(false);
    bank.asked.started().await;
    let second = execute(false).await.unwrap().unwrap();
    assert!(matches!(second, Execution::InFlight { .. }), "{second:?}");
    bank.asked.open();
    let first = first.await.unwrap().unwrap();
    assert_eq!(first, Execution::Replayed(42));
}

#[tokio::test]
async fn other_keys_are_decided_about_meanwhile() {
    let bank = Bank::new(found);
    let (crashes, local) = crashed("/pay", &bank);
    crashes.crash_at(routes(), "/patient");
    let first = local.spawn("/pay", "key");
    bank.asked.started().await;
    let second = local.spawn("/patient", "key");
    bank.asked.started().await;
    bank.asked.open();
    bank.asked.open();
    for found in [first, second] {
        assert_eq!(found.await.unwrap().text(), "found");
    }
}

/// What it finds need not change the record, of which the store would tell.
#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_when_the_function_ends() {
    let bank = Bank::new(|asked| match asked {
        1 => Recovery::Unknown,
        _ => found(asked),
    });
    let (_crashes, local) = crashed("/patient", &bank);
    let first = local.spawn("/patient", "key");
    bank.asked.started().await;
    let waiter = local.spawn("/patient", "key");
    sleep(Duration::from_millis(2_200)).await;
    let ended = Instant::now();
    bank.asked.open();
    let first = first.await.unwrap();
    first.assert_problem(409, "outcome-unknown");
    // The next one to ask is the one that has waited.
    bank.asked.started().await;
    assert_eq!(ended.elapsed(), Duration::ZERO);
    bank.asked.open();
    let found = waiter.await.unwrap();
    assert_eq!((found.text(), found.is_replay()), ("found", true));
    assert_eq!(bank.asked.runs(), 2);
}

/// Each asks the store now and then, because the owner may come back: not again and again.
#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_in_flight_and_does_not_storm_the_store() {
    let bank = Bank::new(found);
    let (crashes, _) = crashed("/patient", &bank);
    let store = crashes.store.clone().without_notifications();
    let local = Local::with(builder_on(store).extension(bank.clone()), routes());
    let hanging = local.spawn("/patient", "key");
    bank.asked.started().await;
    let before = crashes.store.calls(Operation::Claim);
    let begun = Instant::now();
    let waiter = local.post("/patient", "key").await;
    waiter.assert_problem(409, "in-flight");
    assert_eq!(begun.elapsed(), Duration::from_secs(10));
    let calls = crashes.store.calls(Operation::Claim) - before;
    assert!(calls <= 25, "{calls} claims in 10 s");
    assert_eq!(bank.asked.runs(), 1);
    hanging.abort();
}

#[tokio::test]
async fn a_function_that_panics_is_asked_again_by_the_next_request() {
    let bank = Bank::new(|asked| {
        assert_ne!(asked, 1, "the bank's client has a bug");
        found(asked)
    });
    let (_crashes, local) = crashed("/pay", &bank);
    bank.asked.open();
    let first = local.post("/pay", "key").await;
    first.assert_problem(409, "outcome-unknown");
    bank.asked.open();
    assert_eq!(local.post("/pay", "key").await.text(), "found");
}

/// It is dropped while it reads what the crashed attempt has finished.
#[tokio::test]
async fn a_request_that_leaves_before_the_function_holds_nothing() {
    let bank = Bank::new(found);
    let (crashes, local) = crashed("/pay", &bank);
    crashes.store.script(Operation::Get, Fault::Waits);
    let leaving = local.spawn("/pay", "key");
    crashes.store.waiting().await;
    local
        .post("/pay", "key")
        .await
        .assert_problem(409, "in-flight");
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    crashes.store.proceed();
    bank.asked.open();
    assert_eq!(local.post("/pay", "key").await.text(), "found");
    assert_eq!(bank.asked.runs(), 1);
}

#[tokio::test]
async fn a_runtime_that_ends_takes_its_functions_along() {
    let bank = Bank::new(found);
    let (_crashes, local) = crashed("/pay", &bank);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(async {
                drop(local.spawn("/pay", "key"));
                bank.asked.started().await;
            });
        });
    });
    bank.asked.open();
    assert_eq!(local.post("/pay", "key").await.text(), "found");
    assert_eq!(bank.asked.runs(), 2);
}

/// Its process stood still. The attempt after it has crashed, and a function of the same process hangs over that one.
#[tokio::test]
async fn an_owner_that_comes_back_does_not_wait_for_the_function() {
    let bank = Bank::new(found);
    let crashes = Crashes::new();
    let local = Local::with(crashes.builder().extension(bank.clone()), routes());
    let owner = local.spawn("/pay", "key");
    local.probe.started().await;
    crashes.clock.advance(LEASE);
    crashes.take_over(crashes.store.claimed()).await;
    crashes.clock.advance(LEASE);
    let hanging = local.spawn("/pay", "key");
    bank.asked.started().await;
    local.probe.open();
    let late = owner.await.unwrap();
    assert_eq!((late.status, late.text()), (200, "1"));
    local.post("/pay", "key").await.assert_replay_of(&late);
    // And what the function finds comes too late.
    bank.asked.open();
    hanging.await.unwrap().assert_replay_of(&late);
}

/// Each of the records is one, and the request that decides about the second one holds the first.
#[tokio::test]
async fn while_a_secret_is_rotated_one_function_decides_at_a_time() {
    fn rotating(builder: IdempotencyBuilder) -> IdempotencyBuilder {
        builder.secret("new").previous_secrets(["old"])
    }
    let bank = Bank::new(|asked| match asked {
        1 => Recovery::Retry,
        _ => found(asked),
    });
    let crashes = Crashes::new();
    let stopped = Local::with(rotating(crashes.builder()), routes());
    let _never = stopped.spawn("/pay", "key");
    stopped.probe.started().await;
    crashes.clock.advance(LEASE);
    let builder = rotating(crashes.builder()).extension(bank.clone());
    let local = Local::with(builder, routes());
    let first = local.spawn("/pay", "key");
    for number in 1..=2 {
        bank.asked.started().await;
        local
            .post("/pay", "key")
            .await
            .assert_problem(409, "in-flight");
        assert_eq!(bank.asked.runs(), number);
        bank.asked.open();
    }
    assert_eq!(first.await.unwrap().text(), "found");
}

/// Another process takes over and answers while the function of this one hangs.
#[tokio::test(start_paused = true)]
async fn waiter_beside_a_function_that_hangs_sees_another_process_answer() {
    let bank = Bank::new(found);
    let store = Arc::new(FaultyStore::new(MemoryStore::new()));
    let owner = Local::new(Arc::clone(&store), routes());
    let _never = owner.spawn("/patient", "key");
    owner.probe.started().await;
    store.script_times(1000, Operation::Renew, Fault::Swallowed);
    sleep(LEASE + Duration::from_secs(1)).await;
    let builder = builder_on(Arc::clone(&store)).extension(bank.clone());
    let local = Local::with(builder, routes());
    let _asking = local.spawn("/patient", "key");
    bank.asked.started().await;
    let other = take_over(&store, store.claimed()).await;
    let begun = Instant::now();
    let waiter = local.spawn("/patient", "key");
    sleep(Duration::from_secs(3)).await;
    let response = StoredResponse::new(StatusCode::CREATED, HeaderMap::new(), "other");
    let completed = store.complete(&other, &Arc::new(response), LEASE).await;
    completed.unwrap();
    assert_eq!(waiter.await.unwrap().text(), "other");
    assert!(
        begun.elapsed() <= Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}
