//! A store that fails never turns one run into two.

use std::error::Error;
use std::time::Duration;

use idempotent_runtime::store::{StoreError, StoreErrorKind};
use idempotent_runtime::{ExecuteErrorKind, Execution, OnStoreFailure};

use super::{Consumer, DEFAULT, SettleError, assert_executed, assert_replayed, assert_unreachable};
use crate::support::{Fault, Operation};

const AWAY: Fault = Fault::Refused(StoreErrorKind::Unavailable);

#[tokio::test]
async fn down_before_the_function_is_an_error_and_nothing_runs() {
    for choice in [OnStoreFailure::FailClosed, OnStoreFailure::FailOpen] {
        let consumer = Consumer::with(|builder| builder.on_store_failure(choice));
        consumer.store.script_times(2, Operation::Claim, AWAY);
        let refused = consumer.receive(DEFAULT, "key").await;
        let Err(SettleError::NotExecuted(reason)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(reason.kind(), ExecuteErrorKind::Store);
        assert_eq!(reason.retry_after(), Some(Duration::from_secs(1)));
        let cause: &StoreError = reason.source().unwrap().downcast_ref().unwrap();
        assert_eq!(cause.kind(), StoreErrorKind::Unavailable);
        assert_eq!(consumer.probe.runs(), 0);
        consumer.pending(0).await;
        assert_executed(consumer.receive(DEFAULT, "key").await, 1);
    }
}

#[tokio::test]
async fn a_lost_claim_reply_is_asked_for_again_and_runs_once() {
    let consumer = Consumer::new();
    consumer.store.script(Operation::Claim, Fault::ReplyLost);
    assert_executed(consumer.receive(DEFAULT, "key").await, 1);
    assert_replayed(consumer.receive(DEFAULT, "key").await, 1);
}

#[tokio::test]
async fn down_after_the_function_returns_and_goes_on_storing() {
    let consumer = Consumer::new();
    consumer.store.script_times(3, Operation::Complete, AWAY);
    assert_executed(consumer.receive(DEFAULT, "key").await, 1);
    consumer.pending(0).await;
    assert_eq!(consumer.store.calls(Operation::Complete), 4);
    assert_replayed(consumer.receive(DEFAULT, "key").await, 1);
    assert_eq!(consumer.probe.runs(), 1);
}

#[tokio::test]
async fn a_failed_release_is_tried_again() {
    let consumer = Consumer::new();
    consumer.store.script(Operation::Release, AWAY);
    let fails = async |_, _| Err::<usize, _>(SettleError::Unreachable);
    assert_unreachable(consumer.call(DEFAULT, "key", fails).await);
    consumer.pending(0).await;
    assert_executed(consumer.receive(DEFAULT, "key").await, 1);
}

#[tokio::test]
async fn a_record_that_is_lost_while_the_function_runs_is_put_back() {
    let consumer = Consumer::new();
    let running = consumer.spawn(DEFAULT, "key");
    consumer.probe.started().await;
    consumer.store.forget_claimed().await;
    consumer.probe.open();
    assert_executed(running.await.unwrap(), 1);
    assert_replayed(consumer.receive(DEFAULT, "key").await, 1);
}

/// The claim is known to be lost, and not to whom: its result is still being stored.
#[tokio::test]
async fn a_lost_claim_of_which_the_store_says_no_more_is_in_flight() {
    let consumer = Consumer::new();
    let running = consumer.spawn(DEFAULT, "key");
    consumer.probe.started().await;
    consumer.store.forget_claimed().await;
    consumer.store.script(Operation::Claim, AWAY);
    consumer.probe.open();
    let outcome = running.await.unwrap().unwrap();
    assert!(matches!(outcome, Execution::InFlight { .. }), "{outcome:?}");
    consumer.pending(0).await;
    assert_replayed(consumer.receive(DEFAULT, "key").await, 1);
}
