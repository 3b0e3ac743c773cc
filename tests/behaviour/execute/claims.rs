//! One runs; the others are told, or wait. And the one who runs is not stopped by its caller.

use std::time::Duration;

use futures_util::future::join_all;
use idempotent_runtime::{ExecuteErrorKind, Execution, InFlight, Policy};

use super::{
    Consumer, DEFAULT, LEASE, SettleError, assert_executed, assert_no_result, assert_replayed,
    assert_unreachable,
};
use crate::support::{Fault, Operation};

const PATIENT: Policy = Policy::new()
    .in_flight(InFlight::Wait)
    .wait(Duration::from_secs(3_600));

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_callers_at_once_run_once() {
    let consumer = Consumer::new();
    let callers: Vec<_> = (0..16).map(|_| consumer.spawn(PATIENT, "key")).collect();
    consumer.probe.started().await;
    consumer.probe.open();
    let outcomes = join_all(callers).await;
    let outcomes: Vec<_> = outcomes
        .into_iter()
        .map(|it| it.unwrap().unwrap())
        .collect();
    let count = |outcome| outcomes.iter().filter(|it| **it == outcome).count();
    assert_eq!(count(Execution::Executed(1)), 1, "{outcomes:?}");
    assert_eq!(count(Execution::Replayed(1)), 15, "{outcomes:?}");
    assert_eq!(consumer.probe.runs(), 1);
}

#[tokio::test]
async fn a_duplicate_of_a_running_call_is_told_when_to_come_again() {
    let consumer = Consumer::new();
    let first = consumer.spawn(DEFAULT, "key");
    consumer.probe.started().await;
    consumer.clock.advance(LEASE / 3);
    let duplicate = consumer.receive(DEFAULT, "key").await.unwrap();
    let retry_after = LEASE - LEASE / 3;
    assert_eq!(duplicate, Execution::InFlight { retry_after });
    let reason = duplicate.into_result().unwrap_err();
    assert_eq!(reason.kind(), ExecuteErrorKind::InFlight);
    assert_eq!(reason.retry_after(), Some(retry_after));
    consumer.probe.open();
    assert_executed(first.await.unwrap(), 1);
    assert_replayed(consumer.receive(DEFAULT, "key").await, 1);
}

#[tokio::test]
async fn a_waiter_gets_the_result() {
    let consumer = Consumer::new();
    let first = consumer.spawn(PATIENT, "key");
    consumer.probe.started().await;
    let waiter = consumer.spawn(PATIENT, "key");
    consumer.probe.open();
    assert_executed(first.await.unwrap(), 1);
    assert_replayed(waiter.await.unwrap(), 1);
}

#[tokio::test]
async fn a_waiter_that_gives_up_does_not_disturb_the_owner() {
    let consumer = Consumer::new();
    let first = consumer.spawn(DEFAULT, "key");
    consumer.probe.started().await;
    let outcome = consumer
        .receive(PATIENT.wait(Duration::from_millis(5)), "key")
        .await;
    assert!(
        matches!(outcome, Ok(Execution::InFlight { .. })),
        "{outcome:?}"
    );
    consumer.probe.open();
    assert_executed(first.await.unwrap(), 1);
}

#[tokio::test]
async fn when_the_owner_fails_a_waiter_runs() {
    let consumer = Consumer::new();
    let first = consumer.spawn_call(PATIENT, "key", async |probe, _| {
        probe.run_gated().await;
        Err(SettleError::Unreachable)
    });
    consumer.probe.started().await;
    let waiter = consumer.spawn(PATIENT, "key");
    consumer.probe.open();
    assert_unreachable(first.await.unwrap());
    consumer.probe.started().await;
    consumer.probe.open();
    assert_executed(waiter.await.unwrap(), 2);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_stop_the_function() {
    let consumer = Consumer::new();
    let caller = consumer.spawn(DEFAULT, "key");
    consumer.probe.started().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    // The claim, and the task that it has moved to.
    consumer.pending(2).await;
    consumer.probe.open();
    consumer.pending(0).await;
    assert_replayed(consumer.receive(DEFAULT, "key").await, 1);
    assert_eq!((consumer.probe.runs(), consumer.probe.finished()), (1, 1));
}

#[tokio::test]
async fn a_caller_that_goes_away_during_the_claim_leaves_nothing_behind() {
    let consumer = Consumer::new();
    consumer.store.script(Operation::Claim, Fault::Waits);
    let caller = consumer.spawn(DEFAULT, "key");
    consumer.store.waiting().await;
    caller.abort();
    consumer.pending(2).await;
    consumer.store.proceed();
    consumer.pending(0).await;
    assert_eq!(consumer.store.calls(Operation::Release), 1);
    assert_executed(consumer.receive(DEFAULT, "key").await, 1);
}

#[tokio::test]
async fn a_call_that_nobody_awaits_does_nothing() {
    let consumer = Consumer::new();
    let probe = consumer.probe.clone();
    let function = async move || Ok::<_, SettleError>(probe.run());
    let call = consumer
        .idempotency
        .execute(&DEFAULT, "op", (), "key", "", function);
    drop(call);
    assert_eq!(consumer.store.calls(Operation::Claim), 0);
    assert_eq!(
        (consumer.probe.runs(), consumer.idempotency.pending()),
        (0, 0)
    );
}

#[tokio::test]
async fn a_shutdown_takes_no_new_call_and_waits_for_those_that_run() {
    let consumer = Consumer::new();
    assert_executed(consumer.receive(DEFAULT, "done").await, 1);
    let running = consumer.spawn(DEFAULT, "running");
    consumer.probe.started().await;
    consumer.probe.started().await;
    running.abort();
    consumer.pending(2).await;
    let idempotency = consumer.idempotency.clone();
    let shutdown = tokio::spawn(async move { idempotency.shutdown(LONG).await });
    tokio::task::yield_now().await;
    let refused = consumer.receive(DEFAULT, "new").await;
    let Err(SettleError::NotExecuted(reason)) = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(reason.retry_after(), Some(Duration::from_secs(1)));
    assert_no_result(refused, ExecuteErrorKind::ShuttingDown);
    assert_replayed(consumer.receive(DEFAULT, "done").await, 1);
    assert!(!shutdown.is_finished());
    consumer.probe.open();
    assert_eq!(shutdown.await.unwrap(), 0);
    assert_eq!((consumer.probe.runs(), consumer.probe.finished()), (2, 1));
    assert_replayed(consumer.receive(DEFAULT, "running").await, 2);
}

#[tokio::test]
async fn a_function_can_ask_which_attempt_it_is() {
    let consumer = Consumer::new();
    let ask = async |_, attempt: idempotent_runtime::Attempt| {
        let record = attempt.record_key().map(|key| key.to_hex().len());
        Ok((attempt.number(), attempt.is_protected(), record))
    };
    let outcome = consumer.call(DEFAULT, "key", ask).await.unwrap();
    assert_eq!(outcome, Execution::Executed((1, true, Some(64))));
}
