//! Statements that are in each other's way. Who holds what, and who waits for it, is forced.

use std::time::{Duration, Instant};

use idempotent_runtime::store::{
    Acquired, Claim, ClaimRequest, Completion, Progress, Purged, Release, Renewal, Renewed, Store,
    StoreErrorKind,
};
use idempotent_runtime::{Owner, RecordState, Token};

use crate::support::{Scratch, TTL, answer, claimed, request};

pub(crate) fn renewal(of: &ClaimRequest<'_>) -> Renewal {
    Renewal {
        owner: of.owner,
        lease: Duration::from_secs(900),
        retention: of.retention,
    }
}

fn row(of: &ClaimRequest<'_>) -> String {
    let key = of.owner.key.to_hex();
    format!("SELECT * FROM {{table}} WHERE record_key = X'{key}' FOR UPDATE")
}

/// It took the others with it: their leases ended, and their handlers ran twice.
#[tokio::test]
async fn an_open_transaction_on_one_row_delays_no_other_renewal() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(2);
    let mut requests = Vec::new();
    for _ in 0..5 {
        requests.push(claimed(&store).await);
    }
    let gone = request();
    requests.push(gone);
    let holding = scratch.hold(&row(&requests[2])).await;
    let renewals: Vec<_> = requests.iter().map(renewal).collect();
    let started = Instant::now();
    let results = store.renew(&renewals).await;
    // A lock that is waited for takes a second.
    assert!(started.elapsed() < Duration::from_millis(900));
    for (number, result) in results.iter().enumerate() {
        match (number, result) {
            (2, Err(error)) => {
                assert_eq!(error.kind(), StoreErrorKind::Busy, "{error:?}");
                assert!(!error.may_have_happened());
            }
            (5, result) => assert!(matches!(result, Ok(Renewed::Lost)), "{result:?}"),
            (_, result) => assert!(matches!(result, Ok(Renewed::Renewed)), "{result:?}"),
        }
    }
    holding.rollback().await.unwrap();
    let again = store.renew(&renewals[2..3]).await;
    assert!(matches!(again[..], [Ok(Renewed::Renewed)]), "{again:?}");
    for request in &requests[..5] {
        let record = store.get(&request.owner.key).await.unwrap().unwrap();
        let least = Duration::from_secs(700);
        assert!(
            matches!(record.state, RecordState::Running { lease_left } if lease_left > least),
            "{record:?}"
        );
    }
    scratch.clean_up().await;
}

#[tokio::test]
async fn an_open_transaction_on_one_row_delays_nothing_else_that_is_given_up_or_purged() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(2);
    let mut owners: Vec<Owner> = Vec::new();
    for _ in 0..4 {
        owners.push(claimed(&store).await.owner);
    }
    let locked = claimed(&store).await;
    owners.insert(1, locked.owner);
    let stranger = Owner {
        token: Token::random().unwrap(),
        ..owners[0]
    };
    let holding = scratch.hold(&row(&locked)).await;
    let started = Instant::now();
    let abandoned = store.abandon(&[owners[0], owners[1], stranger]).await;
    assert!(
        matches!(&abandoned[..], [Ok(Release::Released), Err(busy), Ok(Release::Lost)]
            if busy.kind() == StoreErrorKind::Busy),
        "{abandoned:?}"
    );
    let released = store.release(&owners).await;
    assert!(
        matches!(&released[..], [Ok(Release::Lost), Err(busy), Ok(Release::Released),
            Ok(Release::Released), Ok(Release::Released)]
            if busy.kind() == StoreErrorKind::Busy),
        "{released:?}"
    );
    // By another key, so that the lock stays on the locked one's row.
    let first = owners[0].key.to_hex();
    let expire =
        format!("UPDATE {{table}} SET expires_at = UTC_TIMESTAMP(6) WHERE record_key = X'{first}'");
    scratch.execute(&expire).await;
    let purged = store.purge_expired(10).await.unwrap();
    assert_eq!(purged.records, 1, "{purged:?}");
    assert_eq!(&*purged.abandoned[0].operation, "POST /payments");
    assert_eq!(purged.abandoned[0].key, owners[0].key);
    assert!(started.elapsed() < Duration::from_millis(900));
    holding.rollback().await.unwrap();
    let released = store.release(&[locked.owner]).await;
    assert!(
        matches!(released[..], [Ok(Release::Released)]),
        "{released:?}"
    );
    assert_eq!(store.purge_expired(10).await.unwrap(), Purged::default());
    scratch.clean_up().await;
}

#[tokio::test]
async fn a_row_that_stays_locked_is_busy_and_nothing_was_written() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let request = claimed(&store).await;
    let holding = scratch.hold(&row(&request)).await;
    let connection = scratch.connection().await;
    let completion = store.complete(&request.owner, &answer(), TTL).await;
    let saved = store
        .save_progress(&request.owner, 0, &b"step 1"[..].into())
        .await;
    let removed = store.remove(&request.owner.key).await;
    for error in [
        completion.unwrap_err(),
        saved.unwrap_err(),
        removed.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Busy, "{error:?}");
        assert!(!error.may_have_happened() && !error.is_about_item());
    }
    assert_eq!(scratch.connection().await, connection, "the same one");
    holding.rollback().await.unwrap();
    let progress = b"step 1"[..].into();
    let saved = store.save_progress(&request.owner, 0, &progress);
    assert_eq!(saved.await.unwrap(), Progress::Saved);
    let completion = store.complete(&request.owner, &answer(), TTL).await;
    assert_eq!(completion.unwrap(), Completion::Stored);
    scratch.clean_up().await;
}

/// The server rolls back one of two that wait for each other: nothing has happened, and it is sent again,
/// once.
#[tokio::test]
async fn statement_that_was_rolled_back_for_a_deadlock_is_sent_again() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    claimed(&store).await;
    let connection = scratch.connection().await;
    for (times, is_claimed) in [(1, true), (3, false)] {
        // As the server says it, so many times on one connection.
        let deadlock = format!(
            "DROP TRIGGER IF EXISTS {{database}}.deadlock;
            CREATE TRIGGER {{database}}.deadlock BEFORE INSERT ON {{table}} FOR EACH ROW
            IF COALESCE(@deadlocks, 0) < {times} THEN
                SET @deadlocks = COALESCE(@deadlocks, 0) + 1;
                SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213;
            END IF"
        );
        scratch.execute(&deadlock).await;
        match store.claim(&request()).await {
            Ok(claim) => assert!(
                is_claimed && matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
                "{claim:?}"
            ),
            Err(error) => {
                assert!(
                    !is_claimed && error.kind() == StoreErrorKind::Busy,
                    "{error:?}"
                );
                assert!(!error.may_have_happened());
            }
        }
    }
    assert_eq!(scratch.connection().await, connection, "on the same one");
    scratch.clean_up().await;
}
