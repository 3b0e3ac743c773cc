//! Statements that are in each other's way. Who holds what, and who waits for it, is forced.

use std::time::Duration;

use idempotent_runtime::store::{Completion, Renewal, Store, StoreErrorKind};
use idempotent_runtime::{Owner, RecordKey};
use sqlx::MySqlPool;
use sqlx::mysql::MySqlPoolOptions;

use crate::support::{Scratch, answer, claimed, connection, request};

/// One connection, which waits for a lock as long as is possible but for not at all: a second.
fn impatient(scratch: &Scratch) -> MySqlPool {
    MySqlPoolOptions::new()
        .max_connections(1)
        .after_connect(|connection, _| {
            Box::pin(async move {
                let briefly = "SET SESSION innodb_lock_wait_timeout = 1";
                sqlx::raw_sql(briefly).execute(connection).await.map(drop)
            })
        })
        .connect_lazy_with(scratch.options.clone())
}

#[tokio::test]
async fn lock_that_took_too_long_is_waited_for_again() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let pool = impatient(&scratch);
    let store = scratch.store_on(pool.clone());
    let request = claimed(&store).await;
    let waiting = connection(&pool).await;
    let holding = scratch.hold("SELECT * FROM {table} FOR UPDATE").await;
    let response = answer();
    let releasing = async {
        let first = scratch.until_blocked(waiting, None).await;
        // Another transaction of the same connection: the first one was told to give up.
        scratch.until_blocked(waiting, Some(&first)).await;
        holding.rollback().await.unwrap();
    };
    let (completion, ()) = tokio::join!(store.complete(&request.owner, &response), releasing);
    assert_eq!(completion.unwrap(), Completion::Stored);
    assert_eq!(connection(&pool).await, waiting, "on the same connection");
    scratch.clean_up().await;
}

#[tokio::test]
async fn lock_that_is_never_free_is_unavailability() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store_on(impatient(&scratch));
    let request = claimed(&store).await;
    let holding = scratch.hold("SELECT * FROM {table} FOR UPDATE").await;
    let error = store.complete(&request.owner, &answer()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    holding.rollback().await.unwrap();
    let completion = store.complete(&request.owner, &answer()).await.unwrap();
    assert_eq!(completion, Completion::Stored);
    scratch.clean_up().await;
}

/// Of two that wait for each other the server rolls back the one that has written less.
#[tokio::test]
async fn statement_that_was_rolled_back_for_a_deadlock_is_sent_again() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let pool = scratch.pool(1);
    let store = scratch.store_on(pool.clone());
    let [low, high] = [1, 2].map(|first| {
        let mut key = *request().owner.key.as_bytes();
        key[0] = first;
        key
    });
    let mut renewals = Vec::new();
    for key in [low, high] {
        let mut request = request();
        request.owner = Owner {
            key: RecordKey::from_bytes(key),
            ..request.owner
        };
        store.claim(&request).await.unwrap();
        renewals.push(Renewal {
            owner: request.owner,
            lease: Duration::from_secs(900),
        });
    }
    let waiting = connection(&pool).await;
    let lock = |key: [u8; 32]| {
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("SELECT * FROM {{table}} WHERE record_key = UNHEX('{hex}') FOR UPDATE")
    };
    // More than a renewal writes, and the second of the rows that it wants.
    let more =
        "(UNHEX(CONCAT('ff', SUBSTR(SHA2(UUID(), 256), 3))), '', 1, '', 1, NOW(), NOW(), NOW())";
    let more = vec![more; 50].join(", ");
    let write = "INSERT INTO {table} (record_key, request_hash, state, token, attempt, created_at, \
                 lease_until, expires_at) VALUES";
    let write = format!("{write} {more}; {}", lock(high));
    let mut holding = scratch.hold(&write).await;
    let deadlocking = async {
        let first = scratch.until_blocked(waiting, None).await;
        // It has the row that the renewal held, so the renewal was rolled back.
        scratch.hold_too(&mut holding, &lock(low)).await;
        scratch.until_blocked(waiting, Some(&first)).await;
        holding.rollback().await.unwrap();
    };
    let (lost, ()) = tokio::join!(store.renew(&renewals), deadlocking);
    assert_eq!(lost.unwrap(), []);
    for renewal in renewals {
        let record = store.get(&renewal.owner.key).await.unwrap().unwrap();
        let least = Duration::from_secs(700);
        assert!(
            matches!(record.state, idempotent_runtime::RecordState::Running { lease_left } if lease_left > least),
            "{record:?}"
        );
    }
    scratch.clean_up().await;
}
