//! Steps where the store forgets, is slow or silent, and where a handler drops them or polls them no more.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Attempt, Release, StepError, idempotent};
use tokio::time::{sleep, timeout};

use crate::support::{App, Fault, FaultyStore, Local, Operation, Probe, builder_on};

/// Waits, begins a step beside itself, waits again, and says that nothing happened.
#[idempotent(name = "beside", lease = "30s")]
async fn beside(attempt: Attempt, State(probe): State<Probe>) -> Release<String> {
    let run = probe.run_gated().await;
    let beside = attempt.clone();
    tokio::spawn(async move {
        let step = beside.step("charge", async { Ok::<u32, String>(1) });
        drop(step.await);
    });
    if run == 1 {
        probe.run_gated().await;
    }
    Release(run.to_string())
}

/// No reply is lost here: a step that looks whether its claim is still there makes a new record of a key that
/// was released meanwhile, and no attempt has it.
#[tokio::test(start_paused = true)]
async fn step_that_is_late_does_not_claim_a_released_key_again() {
    let store = FaultyStore::new(MemoryStore::new());
    let routes: Router<App> = Router::new().route("/beside", post(beside));
    let local = Local::with(builder_on(store.clone()), routes);
    let first = local.spawn("/beside", "key");
    local.probe.started().await;
    // Its lease is not known to last any more, and a step asks the store.
    let busy = Fault::Refused(StoreErrorKind::Busy);
    store.script_times(10_000, Operation::Renew, busy);
    sleep(Duration::from_millis(31_500)).await;
    store.unscript(Operation::Renew);
    store.script(Operation::Renew, Fault::Waits);
    local.probe.open();
    store.waiting().await;
    local.probe.open();
    let first = first.await.unwrap();
    assert_eq!(first.status, 200, "{first:?}");
    // The renewal goes on.
    store.proceed();
    sleep(Duration::from_secs(5)).await;
    let retry = {
        local.probe.open();
        timeout(Duration::from_secs(60), local.post("/beside", "key"))
            .await
            .unwrap()
    };
    sleep(Duration::from_secs(60)).await;
    local.probe.open();
    let later = timeout(Duration::from_secs(60), local.post("/beside", "key"))
        .await
        .unwrap();
    assert_eq!(
        later.status, 200,
        "a stuck key, a minute after it was released: {later:?}"
    );
    assert_eq!(retry.status, 200, "a stuck key: {retry:?}");
}

/// Gives its step a second, as handlers do, and says that nothing happened where that was not enough.
#[idempotent(name = "hurried", lease = "30s")]
async fn hurried(attempt: Attempt, State(probe): State<Probe>) -> Release<String> {
    let run = probe.run_gated().await;
    let step = attempt.step("look", async { Ok::<_, String>(run) });
    let _ = timeout(Duration::from_secs(1), step).await;
    Release(run.to_string())
}

/// A question that its handler has dropped may arrive as any other.
#[tokio::test(start_paused = true)]
async fn question_of_a_step_that_was_dropped_holds_no_key() {
    let store = FaultyStore::new(MemoryStore::new());
    let routes: Router<App> = Router::new().route("/hurried", post(hurried));
    let local = Local::with(builder_on(store.clone()), routes);
    let first = local.spawn("/hurried", "key");
    local.probe.started().await;
    // A failover that forgets; the step finds out, and asks for its claim.
    store.forget_claimed().await;
    store.script(Operation::Claim, Fault::Late);
    local.probe.open();
    let first = first.await.unwrap();
    assert_eq!(first.status, 200, "{first:?}");
    sleep(Duration::from_secs(1)).await;
    // It arrives two seconds after it was asked.
    store.proceed();
    sleep(Duration::from_secs(120)).await;
    local.probe.open();
    let retry = timeout(Duration::from_secs(60), local.post("/hurried", "key"))
        .await
        .unwrap();
    assert_eq!(retry.status, 200, "a stuck key: {retry:?}");
}

/// Waits, looks something up in a step, waits, and charges in another.
#[idempotent(name = "charges", lease = "30s")]
async fn charges(
    attempt: Attempt,
    State(probe): State<Probe>,
) -> Result<String, StepError<String>> {
    probe.run_gated().await;
    attempt.step("look", async { Ok::<_, String>(1) }).await?;
    probe.run_gated().await;
    let charge = async { Ok::<_, String>(CHARGES.replace(CHARGES.get() + 1)) };
    attempt.step("charge", charge).await?;
    Ok("charged".to_owned())
}

thread_local! {
    static CHARGES: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

fn two_that_charge(store: &FaultyStore) -> (Local, Local) {
    let local = || {
        let routes: Router<App> = Router::new().route("/charges", post(charges));
        Local::with(builder_on(store.clone()), routes)
    };
    (local(), local())
}

/// Its own renewals have told this process that another attempt has the key.
#[tokio::test(start_paused = true)]
async fn step_does_not_begin_when_another_attempt_is_known_to_run() {
    let store = FaultyStore::new(MemoryStore::new());
    let (owner, other) = two_that_charge(&store);
    let first = owner.spawn("/charges", "key");
    owner.probe.started().await;
    owner.probe.open();
    owner.probe.started().await;
    // A failover that forgets, and a retry before the next renewal.
    store.forget_claimed().await;
    let second = other.spawn("/charges", "key");
    other.probe.started().await;
    let claims = store.calls(Operation::Claim);
    // The renewal at 10 s says that the claim is lost, and the question after it that another attempt has it.
    sleep(Duration::from_secs(15)).await;
    assert!(store.calls(Operation::Claim) > claims, "it was asked");
    owner.probe.open();
    sleep(Duration::from_secs(1)).await;
    other.probe.open();
    other.probe.open();
    let second = timeout(Duration::from_secs(60), second)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(second.status, 200, "{second:?}");
    assert_eq!(CHARGES.get(), 1, "a second charge");
    drop(first);
}

/// The same, after a step has renewed the lease by itself: that another attempt has completed the record is known.
#[tokio::test(start_paused = true)]
async fn step_does_not_begin_when_another_attempt_is_known_to_have_completed() {
    let store = FaultyStore::new(MemoryStore::new());
    let (owner, other) = two_that_charge(&store);
    let first = owner.spawn("/charges", "key");
    owner.probe.started().await;
    let busy = Fault::Refused(StoreErrorKind::Busy);
    store.script_times(10_000, Operation::Renew, busy);
    sleep(Duration::from_millis(31_500)).await;
    store.unscript(Operation::Renew);
    // Its step renews the lease.
    owner.probe.open();
    owner.probe.started().await;
    store.forget_claimed().await;
    other.probe.open();
    other.probe.open();
    let second = other.post("/charges", "key").await;
    assert_eq!((second.status, CHARGES.get()), (200, 1), "{second:?}");
    let claims = store.calls(Operation::Claim);
    sleep(Duration::from_secs(15)).await;
    assert!(store.calls(Operation::Claim) > claims, "it was asked");
    owner.probe.open();
    let first = timeout(Duration::from_secs(60), first)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(CHARGES.get(), 1, "a second charge: {first:?}");
}

/// Waits for a step for a second, does another one meanwhile, and then waits on.
#[idempotent(name = "meanwhile", lease = "30s")]
async fn meanwhile(attempt: Attempt) -> Result<String, StepError<String>> {
    let mut first = std::pin::pin!(attempt.step("first", async { Ok::<_, String>(1) }));
    let in_time = timeout(Duration::from_secs(1), &mut first).await;
    let second = attempt.step("second", async { Ok::<_, String>(2) }).await?;
    let first = match in_time {
        Ok(first) => first?,
        Err(_) => first.await?,
    };
    Ok(format!("{first} and {second}"))
}

/// One store call is slow, and its step is not polled meanwhile: the next step must not wait for that one.
#[tokio::test(start_paused = true)]
async fn step_that_is_not_polled_does_not_hold_up_another() {
    let store = FaultyStore::new(MemoryStore::new());
    let routes: Router<App> = Router::new().route("/meanwhile", post(meanwhile));
    let local = Local::with(builder_on(store.clone()), routes);
    store.script(Operation::SaveProgress, Fault::Swallowed);
    let first = local.spawn("/meanwhile", "key");
    let answer = timeout(Duration::from_secs(60 * 60), first).await;
    let answer = answer.expect("an answer within an hour").unwrap();
    assert_eq!(answer.text(), "1 and 2");
}

/// Charges, waits, and sends a receipt.
#[idempotent(name = "receipts", lease = "30s")]
async fn receipts(
    attempt: Attempt,
    State(probe): State<Probe>,
) -> Result<String, StepError<String>> {
    attempt.step("charge", async { Ok::<_, String>(1) }).await?;
    probe.run_gated().await;
    attempt
        .step("receipt", async { Ok::<_, String>(2) })
        .await?;
    Ok("charged".to_owned())
}

/// A 503 that says "Nothing was done this time", of a run that has charged.
#[tokio::test(start_paused = true)]
async fn answer_to_a_step_that_cannot_begin_does_not_say_that_nothing_was_done() {
    let store = FaultyStore::new(MemoryStore::new());
    let routes: Router<App> = Router::new().route("/receipts", post(receipts));
    let local = Local::with(builder_on(store.clone()), routes);
    let first = local.spawn("/receipts", "key");
    local.probe.started().await;
    // An outage that is longer than the lease.
    let out = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(10_000, Operation::Renew, out);
    sleep(Duration::from_millis(31_500)).await;
    local.probe.open();
    let first = timeout(Duration::from_secs(60), first)
        .await
        .unwrap()
        .unwrap();
    store.unscript(Operation::Renew);
    let retry = local.post("/receipts", "key").await;
    assert!(retry.text().contains("outcome-unknown"), "{retry:?}");
    assert!(
        !first.text().contains("Nothing was done"),
        "the step `charge` was done: {}",
        first.text()
    );
}

/// The charge is not a step.
#[idempotent(lease = "30s")]
async fn charge_then_step(
    attempt: Attempt,
    State(probe): State<Probe>,
) -> Result<String, StepError<String>> {
    let charge = probe.run();
    sleep(Duration::from_secs(40)).await;
    let receipt = async { Ok::<_, String>(charge) };
    attempt.step("receipt", receipt).await?;
    Ok(format!("charge {charge}"))
}

/// The charge is a step that goes on while another one cannot begin.
#[idempotent(lease = "30s")]
async fn charge_beside_step(
    attempt: Attempt,
    State(probe): State<Probe>,
) -> Result<String, StepError<String>> {
    let charge = async {
        let charge = probe.run();
        sleep(Duration::from_secs(45)).await;
        Ok::<_, String>(charge)
    };
    let stock = async {
        sleep(Duration::from_secs(40)).await;
        attempt.step("stock", async { Ok::<_, String>(()) }).await
    };
    let both = futures_util::future::try_join(attempt.step("charge", charge), stock);
    let (charge, ()) = both.await?;
    Ok(format!("charge {charge}"))
}

/// As before, and the handler has an answer of its own for that, which is not stored.
#[idempotent(lease = "30s", replay_errors = "none")]
async fn charge_and_own_answer(
    attempt: Attempt,
    State(probe): State<Probe>,
) -> Result<String, http::StatusCode> {
    let charge = probe.run();
    sleep(Duration::from_secs(40)).await;
    let receipt = attempt.step("receipt", async { Ok::<_, String>(charge) });
    match receipt.await {
        Ok(charge) => Ok(format!("charge {charge}")),
        Err(_) => Err(http::StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// The store is away for longer than a lease, and the process lives: whatever the handler has done before is not known
/// to have not happened.
#[tokio::test(start_paused = true)]
async fn a_step_that_cannot_begin_does_not_free_the_key() {
    let routes: Router<App> = Router::new()
        .route("/then", post(charge_then_step))
        .route("/beside", post(charge_beside_step))
        .route("/own", post(charge_and_own_answer));
    for path in ["/then", "/beside", "/own"] {
        let store = FaultyStore::new(MemoryStore::new());
        let local = Local::with(builder_on(store.clone()), routes.clone());
        let first = local.spawn(path, "key");
        local.probe.started().await;
        let operations = [
            Operation::Renew,
            Operation::Get,
            Operation::Release,
            Operation::Complete,
        ];
        let away = Fault::Refused(StoreErrorKind::Unavailable);
        for operation in operations {
            store.script_times(100_000, operation, away);
        }
        sleep(Duration::from_secs(41)).await;
        for operation in operations {
            store.unscript(operation);
        }
        let first = first.await.unwrap();
        assert!(first.status >= 500, "{path}: {first:?}");
        sleep(Duration::from_secs(120)).await;
        let retry = local.post(path, "key").await;
        retry.assert_problem(409, "outcome-unknown");
        assert_eq!(local.probe.runs(), 1, "{path}");
    }
}

#[tokio::test]
async fn a_step_that_has_failed_leaves_nothing_in_doubt() {
    let routes: Router<App> = Router::new().route("/", post(declined_as_500));
    let local = Local::new(MemoryStore::new(), routes);
    for run in 1..=2 {
        let answer = local.post("/", "key").await;
        assert_eq!((answer.status, local.probe.runs()), (500, run));
    }
}

/// By its own error, which says that nothing happened.
#[idempotent(lease = "30s", replay_errors = "none")]
async fn declined_as_500(
    attempt: Attempt,
    State(probe): State<Probe>,
) -> Result<String, http::StatusCode> {
    probe.run();
    let declined = async { Err::<u32, _>("declined") };
    let step = attempt.step("charge", declined).await;
    step.map(|it| it.to_string())
        .map_err(|_| http::StatusCode::INTERNAL_SERVER_ERROR)
}
