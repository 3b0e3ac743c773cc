//! Attempts that are cut off, and those that come after them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use idempotent_runtime::{
    Abandoned, Attempt, ExecuteErrorKind, Execution, Idempotency, OnAbandoned, Policy, Recovery,
    StoredResponse,
};
use tokio::time::sleep;

use super::{
    Consumer, DEFAULT, LEASE, SettleError, assert_executed, assert_no_result, assert_replayed,
    assert_unreachable,
};
use crate::support::{Fault, Operation, Probe};

const RETRY: Policy = Policy::new().on_abandoned(OnAbandoned::Retry);

const RECOVER: Policy =
    Policy::new().on_abandoned(OnAbandoned::Recover(|abandoned| Box::pin(find(abandoned))));

/// What the recovery function is to find, and what it was asked.
#[derive(Clone, Default)]
struct Ledger {
    finding: Arc<Mutex<&'static str>>,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn find(abandoned: Abandoned) -> Recovery {
    let ledger: &Ledger = abandoned.extension().unwrap();
    ledger.asked.lock().unwrap().push(format!(
        "{} {:?} {} {} {}",
        abandoned.operation(),
        abandoned.scope(),
        abandoned.key().as_str(),
        abandoned.attempt(),
        abandoned.age().as_secs(),
    ));
    let finding = *ledger.finding.lock().unwrap();
    match finding {
        "done" => Recovery::Replay(StoredResponse::of_value(&42).unwrap()),
        "response" => Recovery::Replay(StoredResponse::new(StatusCode::OK, HeaderMap::new(), "42")),
        "not done" => Recovery::Retry,
        _ => Recovery::Unknown,
    }
}

/// Which attempt it was, when it is let through.
async fn number(probe: Probe, attempt: Attempt) -> Result<usize, SettleError> {
    probe.run_gated().await;
    Ok(attempt.number() as usize)
}

/// The first attempt does not come to its end. Later ones fail, once.
async fn fails_once(probe: Probe, attempt: Attempt) -> Result<usize, SettleError> {
    let number = number(probe, attempt).await?;
    if number == 2 {
        return Err(SettleError::Unreachable);
    }
    Ok(number)
}

/// A process that has stopped in the middle of a function, and whose lease has ended.
async fn crashed(consumer: Consumer) -> Consumer {
    drop(consumer.spawn(DEFAULT, "key"));
    consumer.probe.started().await;
    consumer.clock.advance(LEASE);
    consumer.next_process()
}

async fn recovering(finding: &'static str) -> (Consumer, Ledger) {
    let ledger = Ledger::default();
    *ledger.finding.lock().unwrap() = finding;
    let consumer = crashed(Consumer::new()).await;
    let builder = Idempotency::builder(consumer.store.clone()).extension(ledger.clone());
    let idempotency = builder.build();
    (
        Consumer {
            idempotency,
            ..consumer
        },
        ledger,
    )
}

#[tokio::test]
async fn an_abandoned_key_is_unknown_by_default() {
    let consumer = crashed(Consumer::new()).await;
    let outcome = consumer.receive(DEFAULT, "key").await.unwrap();
    assert_eq!(outcome, Execution::OutcomeUnknown);
    let reason = outcome.into_result().unwrap_err();
    assert_eq!(
        (reason.kind(), reason.retry_after()),
        (ExecuteErrorKind::OutcomeUnknown, None)
    );
    assert_eq!(consumer.probe.runs(), 0);
}

#[tokio::test]
async fn by_choice_an_abandoned_function_runs_again() {
    let consumer = crashed(Consumer::new()).await;
    assert_executed(consumer.call(RETRY, "key", number).await, 2);
    assert_replayed(consumer.receive(RETRY, "key").await, 2);
}

#[tokio::test]
async fn a_recovery_function_that_finds_the_effect_gives_its_value() {
    let (consumer, ledger) = recovering("done").await;
    assert_replayed(consumer.receive(RECOVER, "key").await, 42);
    assert_replayed(consumer.receive(DEFAULT, "key").await, 42);
    assert_eq!(consumer.probe.runs(), 0);
    assert_eq!(*ledger.asked.lock().unwrap(), ["op None key 1 30"]);
}

#[tokio::test]
async fn a_recovery_function_that_finds_nothing_lets_it_run_again() {
    let (consumer, _) = recovering("not done").await;
    assert_executed(consumer.call(RECOVER, "key", number).await, 2);
}

#[tokio::test]
async fn a_recovery_function_that_does_not_know_leaves_it_unknown() {
    let (consumer, ledger) = recovering("unknown").await;
    for _ in 0..2 {
        let outcome = consumer.receive(RECOVER, "key").await.unwrap();
        assert_eq!(outcome, Execution::OutcomeUnknown);
    }
    assert_eq!(ledger.asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_recovery_function_that_answers_as_for_http_has_made_a_mistake_that_runs_nothing() {
    let (consumer, _) = recovering("response").await;
    for _ in 0..2 {
        let outcome = consumer.receive(RECOVER, "key").await;
        assert_no_result(outcome, ExecuteErrorKind::HttpResponse);
    }
    assert_eq!(consumer.probe.runs(), 0);
}

/// It cannot speak for the attempt that crashed.
#[tokio::test]
async fn an_error_after_a_crash_does_not_free_the_key() {
    let consumer = crashed(Consumer::new()).await;
    assert_unreachable(consumer.call(RETRY, "key", fails_once).await);
    assert_eq!(consumer.store.calls(Operation::Release), 0);
    let outcome = consumer.receive(DEFAULT, "key").await.unwrap();
    assert_eq!(outcome, Execution::OutcomeUnknown);
    assert_executed(consumer.call(RETRY, "key", fails_once).await, 3);
}

async fn panics(probe: Probe, attempt: Attempt) -> Result<usize, SettleError> {
    let number = number(probe, attempt).await?;
    assert!(number > 1, "as it says");
    Ok(number)
}

#[tokio::test]
async fn a_panic_goes_on_to_the_caller_and_its_key_is_abandoned_at_once() {
    let consumer = Consumer::new();
    consumer.probe.open();
    let panic = consumer
        .spawn_call(DEFAULT, "key", panics)
        .await
        .unwrap_err();
    assert_eq!(
        *panic.into_panic().downcast::<&str>().unwrap(),
        "as it says"
    );
    let outcome = consumer.receive(DEFAULT, "key").await.unwrap();
    assert_eq!(outcome, Execution::OutcomeUnknown);
    consumer.probe.open();
    assert_executed(consumer.call(RETRY, "key", panics).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_the_store_is_unavailable_abandons_the_key_when_it_is_back() {
    let consumer = Consumer::new();
    let away = Fault::Refused(idempotent_runtime::store::StoreErrorKind::Unavailable);
    consumer.store.script_times(5, Operation::Abandon, away);
    consumer.probe.open();
    let panicked = consumer.spawn_call(DEFAULT, "key", panics).await;
    assert!(panicked.unwrap_err().is_panic());
    let outcome = consumer.receive(DEFAULT, "key").await;
    assert!(
        matches!(outcome, Ok(Execution::InFlight { .. })),
        "{outcome:?}"
    );
    // The store's clock stands still: it is not the lease that ends.
    let abandoned = async {
        while consumer.store.calls(Operation::Abandon) < 6 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let abandoned = tokio::time::timeout(Duration::from_secs(60), abandoned);
    abandoned.await.expect("it is tried until it succeeds");
    let outcome = consumer.receive(DEFAULT, "key").await.unwrap();
    assert_eq!(outcome, Execution::OutcomeUnknown);
}

/// The first question arrives when the record of the crash is gone: no attempt owned the record that it made.
#[tokio::test(start_paused = true)]
async fn a_question_that_arrives_after_the_retention_does_not_hold_the_key() {
    const RETENTION: Duration = Duration::from_secs(60);
    let consumer =
        Consumer::with(|builder| builder.secret_check(false).abandoned_retention(RETENTION));
    consumer.store.script(Operation::Claim, Fault::Late);
    consumer.probe.open();
    let panicked = consumer.spawn_call(DEFAULT, "key", panics).await;
    assert!(panicked.unwrap_err().is_panic());
    consumer.clock.advance(LEASE + RETENTION);
    sleep(LEASE + RETENTION).await;
    consumer.store.proceed();
    sleep(Duration::from_millis(1)).await;
    let held = consumer.receive(DEFAULT, "key").await.unwrap();
    assert!(matches!(held, Execution::InFlight { .. }), "{held:?}");
    sleep(LEASE + Duration::from_secs(5)).await;
    assert_executed(consumer.receive(DEFAULT, "key").await, 2);
}
