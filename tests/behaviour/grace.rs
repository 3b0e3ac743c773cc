//! A lease that has ended is no proof of a crash: its owner may be alive, and the store have been out of its
//! reach, or have taken no writes, for longer than the lease.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{Store, StoreErrorKind};
use idempotent_runtime::{
    Abandoned, Attempt, Execution, Idempotency, OnAbandoned, Policy, Recovery, Release,
    StoredResponse, idempotent,
};
use tokio::time::{Instant, sleep};

use crate::support::{App, Fault, FaultyStore, LEASE, Local, Operation, Probe, take_over};

#[idempotent(on_abandoned = "retry", lease = "30s")]
async fn long(State(probe): State<Probe>) -> String {
    let run = probe.run();
    sleep(10 * LEASE).await;
    run.to_string()
}

#[idempotent(on_abandoned = "retry", lease = "30s")]
async fn short(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent(ttl_hours = 24)]
async fn releases(State(probe): State<Probe>, attempt: Attempt) -> Release<String> {
    let run = probe.run_gated().await;
    let _ = attempt
        .step("one", async {
            Ok::<_, idempotent_runtime::ExecuteError>(1)
        })
        .await;
    Release(run.to_string())
}

/// Takes longer than its client is patient.
async fn look_slowly(_: Abandoned) -> Recovery {
    sleep(Duration::from_secs(3)).await;
    Recovery::Replay(StoredResponse::new(
        http::StatusCode::OK,
        http::HeaderMap::new(),
        "found",
    ))
}

#[idempotent(on_abandoned = look_slowly, lease = "30s")]
async fn recovered(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

/// It takes longer than its lease after its step.
#[idempotent(on_abandoned = "retry", lease = "30s")]
async fn in_steps(attempt: Attempt, State(probe): State<Probe>) -> String {
    let run = probe.run_gated().await;
    let step = async { Ok::<_, String>(run) };
    let charged = attempt.step("charge", step).await;
    sleep(2 * LEASE).await;
    charged.map_or_else(|error| error.to_string(), |run| run.to_string())
}

/// Two processes on one store.
fn two(store: &FaultyStore) -> (Local, Local) {
    (
        Local::new(store.clone(), routes()),
        Local::new(store.clone(), routes()),
    )
}

fn routes() -> Router<App> {
    Router::new()
        .route("/long", post(long))
        .route("/short", post(short))
        .route("/releases", post(releases))
        .route("/recovered", post(recovered))
        .route("/steps", post(in_steps))
}

/// Both see trouble, and the claim that comes when it is over is there before the next renewal.
#[tokio::test(start_paused = true)]
async fn lock_longer_than_the_lease_is_no_crash() {
    let store = FaultyStore::new(MemoryStore::new());
    let (owner, other) = two(&store);
    let running = owner.spawn("/long", "key");
    owner.probe.started().await;
    let busy = Fault::Refused(StoreErrorKind::Busy);
    store.script_times(1000, Operation::Renew, busy);
    store.script_times(1000, Operation::Claim, busy);
    for _ in 0..40 {
        let refused = other.post("/long", "key").await;
        refused.assert_problem(503, "store-unavailable");
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_millis(500)).await;
    store.unscript(Operation::Claim);
    store.unscript(Operation::Renew);
    let again = other.post("/long", "key").await;
    again.assert_problem(409, "in-flight");
    assert_eq!(owner.probe.runs() + other.probe.runs(), 1);
    drop(running);
}

/// Writes fail and reads do not, for longer than the lease: a claim of a record that is there works.
#[tokio::test(start_paused = true)]
async fn writes_refused_for_longer_than_the_lease_are_no_crash() {
    let kinds = [
        StoreErrorKind::Busy,
        StoreErrorKind::Refused,
        StoreErrorKind::Full,
        StoreErrorKind::TimedOut,
    ];
    for kind in kinds {
        let store = FaultyStore::new(MemoryStore::new());
        let (owner, other) = two(&store);
        let running = owner.spawn("/long", "key");
        owner.probe.started().await;
        store.script_times(1000, Operation::Renew, Fault::Refused(kind));
        store.script_times(1000, Operation::GiveGrace, Fault::Refused(kind));
        for second in 0..40 {
            let refused = other.post("/long", "key").await;
            match second {
                0..30 => refused.assert_problem(409, "in-flight"),
                _ => refused.assert_problem(503, "store-unavailable"),
            }
            sleep(Duration::from_secs(1)).await;
        }
        sleep(Duration::from_millis(500)).await;
        store.unscript(Operation::GiveGrace);
        store.unscript(Operation::Renew);
        let again = other.post("/long", "key").await;
        again.assert_problem(409, "in-flight");
        assert_eq!(owner.probe.runs() + other.probe.runs(), 1, "{kind:?}");
        drop(running);
    }
}

/// A process that has asked nothing meanwhile, or was started after it, knows of no outage.
#[tokio::test(start_paused = true)]
async fn outage_that_the_other_process_has_not_seen_is_no_crash() {
    let store = FaultyStore::new(MemoryStore::new());
    let (owner, other) = two(&store);
    let running = owner.spawn("/long", "key");
    owner.probe.started().await;
    let out = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(1000, Operation::Renew, out);
    sleep(Duration::from_millis(40_500)).await;
    store.unscript(Operation::Renew);
    let again = other.post("/long", "key").await;
    again.assert_problem(409, "in-flight");
    assert_eq!(owner.probe.runs() + other.probe.runs(), 1);
    drop(running);
}

/// Each of them leaves before the grace period is over, and the next one would begin it again.
#[tokio::test(start_paused = true)]
async fn clients_that_leave_early_do_not_block_a_key() {
    let store = FaultyStore::new(MemoryStore::new());
    let (owner, other) = two(&store);
    let running = owner.spawn("/short", "key");
    owner.probe.started().await;
    store.script_times(1000, Operation::Renew, Fault::Swallowed);
    sleep(Duration::from_secs(31)).await;
    let patience = Duration::from_secs(1);
    let first = tokio::time::timeout(patience, other.post("/short", "key")).await;
    assert!(first.is_err());
    let second = other.post("/short", "key").await;
    second.assert_problem(409, "in-flight");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(other.probe.runs(), 0);
    let begun = Instant::now();
    let again = other.spawn("/short", "key");
    other.probe.started().await;
    assert!(begun.elapsed() < patience, "{:?}", begun.elapsed());
    drop((running, again));
}

/// What a recovery function finds is stored, although the client that it was asked for has left.
#[tokio::test(start_paused = true)]
async fn clients_that_leave_early_do_not_hold_up_a_recovery() {
    let store = FaultyStore::new(MemoryStore::new());
    let (owner, other) = two(&store);
    let running = owner.spawn("/recovered", "key");
    owner.probe.started().await;
    store.script_times(1000, Operation::Renew, Fault::Swallowed);
    sleep(Duration::from_secs(31)).await;
    // The first one leaves in the grace period, the second one while the function looks.
    let patience = Duration::from_secs(1);
    let ask = || tokio::time::timeout(patience, other.post("/recovered", "key"));
    for _ in 0..2 {
        assert!(ask().await.is_err());
        sleep(Duration::from_secs(3)).await;
    }
    let found = ask().await.expect("it was found before");
    assert_eq!((found.text(), found.is_replay()), ("found", true));
    assert_eq!(other.probe.runs(), 0);
    drop(running);
}

/// The claim is not renewed: the next attempt comes after the grace, in the same request.
#[tokio::test(start_paused = true)]
async fn attempt_that_crashed_is_taken_over_after_the_grace() {
    let store = FaultyStore::new(MemoryStore::new());
    let (owner, other) = two(&store);
    let running = owner.spawn("/long", "key");
    owner.probe.started().await;
    // It is not alive, as far as the store can know.
    store.script_times(1000, Operation::Renew, Fault::Swallowed);
    sleep(Duration::from_secs(31)).await;
    let begun = Instant::now();
    let again = other.spawn("/long", "key");
    other.probe.started().await;
    let grace = begun.elapsed();
    assert!(
        grace >= Duration::from_secs(2) && grace <= Duration::from_secs(5),
        "{grace:?}"
    );
    // Everybody else has a request in flight meanwhile.
    assert_eq!(store.calls(Operation::GiveGrace), 1);
    drop((running, again));
}

/// Its owner has given it up itself: no owner can come back.
#[tokio::test(start_paused = true)]
async fn attempt_that_gave_itself_up_is_taken_over_at_once() {
    static RETRY: Policy = Policy::new().on_abandoned(OnAbandoned::Retry);
    let store = FaultyStore::new(MemoryStore::new());
    let idempotency = Idempotency::builder(store).secret_check(false).build();
    let execute = |fails: bool| {
        let idempotency = idempotency.clone();
        tokio::spawn(async move {
            let function = move || async move {
                assert!(!fails, "it panics");
                Ok::<_, idempotent_runtime::ExecuteError>(1)
            };
            let executed = idempotency.execute(&RETRY, "pay", (), "key", &(), function);
            executed.await.unwrap()
        })
    };
    let begun = Instant::now();
    assert!(execute(true).await.is_err());
    assert_eq!(execute(false).await.unwrap(), Execution::Executed(1));
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

/// A refusal that looks as if it was about the item (PostgreSQL's 54000 near the wraparound of
/// transaction ids), for a while.
#[tokio::test(start_paused = true)]
async fn completion_that_is_refused_for_a_minute_as_if_it_was_too_large_is_stored() {
    let store = FaultyStore::new(MemoryStore::new());
    let local = Local::new(store.clone(), routes());
    let running = local.spawn("/short", "key");
    local.probe.started().await;
    let refused = Fault::Refused(StoreErrorKind::TooLarge);
    store.script_times(1000, Operation::Complete, refused);
    local.probe.open();
    let first = running.await.unwrap();
    assert_eq!(first.text(), "1");
    sleep(Duration::from_secs(60)).await;
    store.unscript(Operation::Complete);
    local.probe.open();
    let again = local.post("/short", "key").await;
    println!("{again:?}");
    assert_eq!(local.probe.runs(), 1, "second effect");
}

/// A step puts a lost record back by a claim whose question is late.
#[tokio::test(start_paused = true)]
async fn late_claim_of_a_step_holds_nothing() {
    let store = FaultyStore::new(MemoryStore::new());
    let local = Local::new(store.clone(), routes());
    let running = local.spawn("/releases", "key");
    local.probe.started().await;
    let record = store.claimed();
    store.forget_claimed().await;
    store.script(Operation::Claim, Fault::Late);
    local.probe.open();
    let first = running.await.unwrap();
    println!("{first:?}");
    sleep(Duration::from_secs(1)).await;
    // The question arrives.
    store.proceed();
    sleep(Duration::from_secs(120)).await;
    let found = store.get(&record).await.unwrap();
    println!("{found:?}");
    local.probe.open();
    let again = local.post("/releases", "key").await;
    println!("{again:?}");
    assert_eq!(again.text(), "2", "stuck key");
}

/// Its claim was taken over, and the later attempt crashed. It takes over in turn: that question has no reply, and the store
/// then takes no completion for longer than the lease. Its lease was not renewed, and the key was taken over once more.
#[tokio::test(start_paused = true)]
async fn a_claim_that_is_regained_without_a_reply_is_renewed() {
    let store = FaultyStore::new(MemoryStore::new());
    let (owner, other) = two(&store);
    let running = owner.spawn("/short", "key");
    owner.probe.started().await;
    let out = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(1000, Operation::Renew, out);
    sleep(LEASE + Duration::from_secs(1)).await;
    take_over(&store, store.claimed()).await;
    store.unscript(Operation::Renew);
    sleep(2 * LEASE).await;
    store.script(Operation::Claim, Fault::Works);
    store.script(Operation::Claim, Fault::ReplyLost);
    store.script(Operation::Complete, Fault::Works);
    store.script_times(1000, Operation::Complete, out);
    owner.probe.open();
    running.await.unwrap().assert_problem(409, "in-flight");
    sleep(2 * LEASE).await;
    other.probe.open();
    let again = other.post("/short", "key").await;
    again.assert_problem(409, "in-flight");
    store.unscript(Operation::Complete);
    owner.pending(0).await;
    let again = other.post("/short", "key").await;
    assert_eq!((again.text(), again.is_replay()), ("1", true));
    assert_eq!(owner.probe.runs() + other.probe.runs(), 1);
}

/// The same, and the record of the later attempt is then removed: a step finds that the claim is its own again.
#[tokio::test(start_paused = true)]
async fn a_claim_that_a_step_regains_is_renewed() {
    let store = FaultyStore::new(MemoryStore::new());
    let (owner, other) = two(&store);
    let running = owner.spawn("/steps", "key");
    owner.probe.started().await;
    let record = store.claimed();
    let out = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(1000, Operation::Renew, out);
    sleep(LEASE + Duration::from_secs(1)).await;
    take_over(&store, record).await;
    store.unscript(Operation::Renew);
    sleep(2 * LEASE).await;
    assert!(store.remove(&record).await.unwrap());
    owner.probe.open();
    sleep(LEASE * 3 / 2).await;
    other.probe.open();
    let again = other.post("/steps", "key").await;
    again.assert_problem(409, "in-flight");
    assert_eq!(running.await.unwrap().text(), "1");
    assert_eq!(other.probe.runs(), 0);
}

/// The same where the question to take over has not even arrived when it is given up: until it has, the store says that the
/// record is abandoned, and its owner may not stop to ask for it.
#[tokio::test(start_paused = true)]
async fn a_take_over_that_arrives_late_is_renewed() {
    let store = FaultyStore::new(MemoryStore::new());
    let (owner, other) = two(&store);
    let running = owner.spawn("/short", "key");
    owner.probe.started().await;
    let out = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(1000, Operation::Renew, out);
    sleep(LEASE + Duration::from_secs(1)).await;
    take_over(&store, store.claimed()).await;
    store.unscript(Operation::Renew);
    sleep(2 * LEASE).await;
    store.script(Operation::Claim, Fault::Works);
    store.script(Operation::Claim, Fault::Late);
    store.script(Operation::Complete, Fault::Works);
    store.script_times(1000, Operation::Complete, out);
    owner.probe.open();
    running.await.unwrap().assert_problem(409, "in-flight");
    sleep(Duration::from_secs(10)).await;
    // The question arrives.
    store.proceed();
    sleep(2 * LEASE).await;
    other.probe.open();
    let again = other.post("/short", "key").await;
    again.assert_problem(409, "in-flight");
    assert_eq!(owner.probe.runs() + other.probe.runs(), 1);
}
