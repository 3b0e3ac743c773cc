//! Records that cannot be read, and connections that are ended in the middle of a call.

use idempotent_runtime::store::{Claim, Completion, Store, StoreErrorKind};

use crate::proxy::Proxy;
use crate::sql::sql_store_tests;
use crate::support::{PATIENCE, Scratch, TTL, answer, chain, claimed, request, rival};

/// `ER_BINLOG_LOGGING_IMPOSSIBLE`.
pub(crate) const LOG_IS_IMPOSSIBLE: u16 = 1598;

sql_store_tests!(
    Scratch: record_that_cannot_be_read_is_corrupt_and_never_absent,
    completing_a_record_of_an_unknown_state_is_corrupt,
);

/// It is sent once more, on a fresh connection, where the row is locked still.
#[tokio::test]
async fn call_whose_connection_was_killed_may_have_happened_and_can_be_repeated() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let request = claimed(&store).await;
    let victim = scratch.connection().await;
    let holding = scratch.hold("SELECT * FROM {table} FOR UPDATE").await;
    let complete = async || store.complete(&request.owner, &answer(), TTL).await;
    let killing = async {
        scratch.until_blocked(victim, None).await;
        scratch.kill(victim).await;
    };
    let (completion, ()) = tokio::join!(complete(), killing);
    let error = completion.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Busy, "{error:?}");
    assert!(error.may_have_happened());
    assert!(chain(&error).starts_with("mysql store"), "{error:?}");
    holding.rollback().await.unwrap();
    assert_eq!(complete().await.unwrap(), Completion::Stored);
    let claim = store.claim(&rival(&request)).await.unwrap();
    assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
    scratch.clean_up().await;
}

/// It is not sent once more: who asks has to know of the question that got no reply.
#[tokio::test]
async fn claim_whose_connection_was_killed_may_have_happened_and_is_not_answered() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    claimed(&store).await;
    let victim = scratch.connection().await;
    // No other row can be inserted.
    let holding = scratch.hold("SELECT * FROM {table} FOR UPDATE").await;
    let new = request();
    let killing = async {
        scratch.until_blocked(victim, None).await;
        scratch.kill(victim).await;
    };
    let (claim, ()) = tokio::join!(store.claim(&new), killing);
    let error = claim.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    assert!(error.may_have_happened());
    holding.rollback().await.unwrap();
    let claim = store.claim(&new).await.unwrap();
    assert!(matches!(claim, Claim::Acquired(_)), "{claim:?}");
    scratch.clean_up().await;
}

/// MySQL says so and ends when it cannot write its binary log (`binlog_error_action = ABORT_SERVER`). What was in the log by then
/// is there when it has been started again, so that a key was held for a request that never ran.
#[tokio::test]
async fn claim_of_a_server_that_ends_because_of_its_log_may_have_happened() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let proxy = Proxy::to(&scratch.options).await;
    let store = scratch.store_on(&proxy.options(&scratch.options), 1);
    let request = request();
    proxy.fail_reply_to(request.operation, LOG_IS_IMPOSSIBLE);
    let error = store.claim(&request).await.unwrap_err();
    assert!(proxy.has_kept_a_reply(), "{error:?}");
    let record = scratch.store(1).get(&request.owner.key).await.unwrap();
    assert!(record.is_some());
    assert!(error.may_have_happened(), "{error:?}");
    scratch.clean_up().await;
}

/// Arriving late, the first of two could remove the next record of the key.
#[tokio::test]
async fn removal_whose_connection_was_killed_may_have_happened_and_is_not_sent_again() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let record = claimed(&store).await;
    let victim = scratch.connection().await;
    let holding = scratch.hold("SELECT * FROM {table} FOR UPDATE").await;
    let killing = async {
        scratch.until_blocked(victim, None).await;
        scratch.kill(victim).await;
        holding.rollback().await.unwrap();
    };
    let (removal, ()) = tokio::join!(store.remove(&record.owner.key), killing);
    let error = removal.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    assert!(error.may_have_happened());
    assert!(store.remove(&record.owner.key).await.unwrap());
    scratch.clean_up().await;
}

/// `KILL QUERY`: the connection lives, and it is not known how far the statement has come.
#[tokio::test]
async fn a_statement_that_was_interrupted_may_have_happened() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let request = claimed(&store).await;
    let victim = scratch.connection().await;
    let holding = scratch.hold("SELECT * FROM {table} FOR UPDATE").await;
    let killing = async {
        scratch.until_blocked(victim, None).await;
        scratch.execute(&format!("KILL QUERY {victim}")).await;
    };
    let response = answer();
    let (completion, ()) = tokio::join!(store.complete(&request.owner, &response, TTL), killing);
    let error = completion.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    assert!(error.may_have_happened() && !error.is_about_item());
    holding.rollback().await.unwrap();
    let completion = store.complete(&request.owner, &response, TTL).await;
    assert_eq!(completion.unwrap(), Completion::Stored);
    scratch.clean_up().await;
}

/// The reply that no call waited for is not taken for the next call's: that connection is closed.
#[tokio::test]
async fn abandoned_call_leaves_the_store_usable() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let request = claimed(&store).await;
    let abandoned = scratch.connection().await;
    let holding = scratch.hold("SELECT * FROM {table} FOR UPDATE").await;
    let response = answer();
    tokio::select! {
        completion = store.complete(&request.owner, &response, TTL) => panic!("{completion:?}"),
        _ = scratch.until_blocked(abandoned, None) => {}
    }
    holding.rollback().await.unwrap();
    // It may have happened, as a whole or not at all. The server's end of it takes a moment to go.
    let completion = tokio::time::timeout(PATIENCE, store.complete(&request.owner, &response, TTL));
    let completion = completion.await.unwrap().unwrap();
    assert_ne!(completion, Completion::Lost);
    let connections = scratch.connections().await;
    assert_ne!(connections.last(), Some(&abandoned), "{connections:?}");
    scratch.clean_up().await;
}
