//! Records that cannot be read, and servers that end what they were asked to do.

use idempotent_runtime::store::{Claim, Completion, Release, Store, StoreErrorKind};

use crate::sql::{Bench as _, sql_store_tests};
use crate::support::{PATIENCE, Scratch, TTL, answer, backend, claimed, pool, rival};

sql_store_tests!(
    Scratch: record_that_cannot_be_read_is_corrupt_and_never_absent,
    completing_a_record_of_an_unknown_state_is_corrupt,
);

#[tokio::test]
async fn completed_record_that_cannot_be_read_is_not_released() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    for damage in Scratch::DAMAGES {
        let request = claimed(&store).await;
        let completed = store.complete(&request.owner, &answer(), TTL).await;
        completed.unwrap();
        let damage_it = format!(r#"UPDATE "{{table}}" SET {damage}"#);
        scratch.execute(&damage_it).await;
        let release = store.release(&[request.owner]).await.remove(0);
        assert_eq!(release.unwrap(), Release::Lost, "{damage}");
    }
    scratch.clean_up().await;
}

#[tokio::test]
async fn connections_that_were_killed_while_they_were_idle_fail_no_call() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    for _ in 0..3 {
        let request = claimed(&store).await;
        for backend in scratch.backends().await {
            scratch.kill(backend).await;
        }
        let completion = store.complete(&request.owner, &answer(), TTL).await;
        assert_eq!(completion.unwrap(), Completion::Stored);
    }
    scratch.clean_up().await;
}

/// Each connection that is tried is killed while the server is at it.
#[tokio::test]
async fn call_that_was_killed_in_the_server_may_have_happened_and_can_be_repeated() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let request = claimed(&store).await;
    let (holder, holding) = hold_all_rows(&scratch).await;
    let complete = async || store.complete(&request.owner, &answer(), TTL).await;
    let killing = async {
        for _ in 0..2 {
            scratch.until_blocked_by(holder, 1).await;
            for backend in scratch.backends().await {
                scratch.kill(backend).await;
            }
            scratch.until_blocked_by_at_most(holder, 0).await;
        }
    };
    let (completion, ()) = tokio::join!(complete(), killing);
    let error = completion.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.may_have_happened());
    holding.rollback().await.unwrap();
    assert_eq!(complete().await.unwrap(), Completion::Stored);
    let claim = store.claim(&rival(&request)).await.unwrap();
    assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
    scratch.clean_up().await;
}

#[tokio::test]
async fn time_outs_of_the_server_are_told_from_locks_and_nothing_was_written() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let request = claimed(&scratch.store(1)).await;
    let (_, holding) = hold_all_rows(&scratch).await;
    for (setting, kind) in [
        ("lock_timeout", StoreErrorKind::Busy),
        ("statement_timeout", StoreErrorKind::TimedOut),
    ] {
        let options = scratch.server.clone().options([(setting, "50ms")]);
        let store = scratch.store_on(pool(&options, 1));
        let error = store
            .complete(&request.owner, &answer(), TTL)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{setting}");
        assert!(!error.may_have_happened(), "{setting}");
    }
    // Without a setting of the application.
    let store = scratch.store_on(pool(&scratch.server, 1));
    let error = store
        .complete(&request.owner, &answer(), TTL)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Busy);
    holding.rollback().await.unwrap();
    scratch.clean_up().await;
}

/// The future is dropped while the server is at it: as a whole or not at all.
#[tokio::test]
async fn abandoned_call_leaves_the_connection_usable() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let request = claimed(&store).await;
    let (holder, holding) = hold_all_rows(&scratch).await;
    let response = answer();
    tokio::select! {
        completion = store.complete(&request.owner, &response, TTL) => panic!("{completion:?}"),
        () = scratch.until_blocked_by(holder, 1) => {}
    }
    holding.rollback().await.unwrap();
    let completion = store
        .complete(&request.owner, &answer(), TTL)
        .await
        .unwrap();
    assert_eq!(completion, Completion::AlreadyCompleted);
    tokio::time::timeout(PATIENCE, claimed(&store))
        .await
        .unwrap();
    scratch.clean_up().await;
}

/// The backend that holds a lock on each row, and its transaction.
async fn hold_all_rows(scratch: &Scratch) -> (i32, sqlx::Transaction<'static, sqlx::Postgres>) {
    let mut transaction = scratch.admin.begin().await.unwrap();
    let lock = format!(r#"SELECT 1 FROM "{}" FOR UPDATE"#, scratch.table);
    sqlx::query(sqlx::AssertSqlSafe(lock))
        .fetch_all(&mut *transaction)
        .await
        .unwrap();
    let holder = backend(&mut *transaction).await;
    (holder, transaction)
}
