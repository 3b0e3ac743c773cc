//! Connections of the store's own: what handlers and locks hold is not what leases wait for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use idempotent_runtime::store::{Release, Renewal, Renewed, Store, StoreErrorKind};
use sqlx::{AssertSqlSafe, Postgres, Transaction};

use crate::support::{PATIENCE, Scratch, TTL, answer, claimed, pool};
use crate::till::Till;

/// A pool of two, three handlers that hold its connections for longer than their leases.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_hold_all_connections_of_the_pool_keep_their_leases() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let shared = pool(&scratch.server, 2);
    let store = scratch.store_on(shared.clone());
    let till = Till::open(store, shared, Duration::from_secs(2)).await;
    let (one, other, duplicate) = tokio::join!(
        till.post("/hold", "one", "6000"),
        till.post("/hold", "other", "6000"),
        async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            till.post("/hold", "one", "6000").await
        }
    );
    assert_eq!((one.status, other.status), (200, 200));
    assert_eq!(duplicate.status, 409, "{}", duplicate.text);
    assert_eq!(till.runs(), 2);
    assert!(till.post("/hold", "one", "6000").await.is_replay());
    scratch.clean_up().await;
}

#[tokio::test]
async fn row_in_an_open_transaction_is_busy_and_delays_no_other() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(4);
    let claims = [
        claimed(&store).await,
        claimed(&store).await,
        claimed(&store).await,
    ];
    let owners = claims.each_ref().map(|claim| claim.owner);
    let renewals = claims.each_ref().map(|claim| Renewal {
        owner: claim.owner,
        lease: Duration::from_secs(7200),
        retention: claim.retention,
    });
    let holding = holding(&scratch, owners[1].key.as_bytes()).await;
    let started = Instant::now();
    let renewed = store.renew(&renewals).await;
    assert_eq!(renewed[0].as_ref().unwrap(), &Renewed::Renewed);
    assert_eq!(renewed[2].as_ref().unwrap(), &Renewed::Renewed);
    let busy = renewed[1].as_ref().unwrap_err();
    assert_eq!(busy.kind(), StoreErrorKind::Busy);
    assert!(!busy.may_have_happened());
    let abandoned = store.abandon(&owners[..2]).await;
    assert_eq!(abandoned[0].as_ref().unwrap(), &Release::Released);
    let busy = abandoned[1].as_ref().unwrap_err();
    assert_eq!(busy.kind(), StoreErrorKind::Busy);
    let released = store.release(&owners).await;
    assert_eq!(
        released[0].as_ref().unwrap(),
        &Release::Lost,
        "its token is gone"
    );
    let busy = released[1].as_ref().unwrap_err();
    assert_eq!(busy.kind(), StoreErrorKind::Busy);
    assert_eq!(released[2].as_ref().unwrap(), &Release::Released);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    holding.rollback().await.unwrap();
    let renewed = store.renew(&renewals).await;
    let renewed = renewed.into_iter().map(Result::unwrap);
    assert_eq!(
        renewed.collect::<Vec<_>>(),
        [Renewed::Lost, Renewed::Renewed, Renewed::Lost]
    );
    scratch.clean_up().await;
}

/// More completions of a record that is held than there are connections: no call waits for long.
#[tokio::test]
async fn completions_that_wait_for_a_row_are_busy_and_take_the_lane_from_nobody() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = Arc::new(scratch.store_on(pool(&scratch.server, 2)));
    let held = claimed(&*store).await;
    let holding = holding(&scratch, held.owner.key.as_bytes()).await;
    let stuck: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.complete(&held.owner, &answer(), TTL).await })
        })
        .collect();
    let others = async {
        for _ in 0..5 {
            let other = claimed(&*store).await;
            store.complete(&other.owner, &answer(), TTL).await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, others).await.unwrap();
    for stuck in stuck {
        let error = stuck.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Busy);
        assert!(!error.may_have_happened());
    }
    holding.rollback().await.unwrap();
    store.complete(&held.owner, &answer(), TTL).await.unwrap();
    scratch.clean_up().await;
}

/// As an operator's `psql` would.
async fn holding(scratch: &Scratch, key: &[u8]) -> Transaction<'static, Postgres> {
    let mut transaction = scratch.admin.begin().await.unwrap();
    let lock = format!(
        r#"SELECT 1 FROM "{}" WHERE record_key = $1 FOR UPDATE"#,
        scratch.table
    );
    sqlx::query(AssertSqlSafe(lock))
        .bind(key)
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    transaction
}
