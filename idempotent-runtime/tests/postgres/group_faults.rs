//! Operations of a group that fail or wait, callers that go away, connections that are lost or not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use idempotent_runtime::RecordKey;
use idempotent_runtime::store::{Claim, Completion, Store, StoreErrorKind};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Postgres};

use crate::calls::{
    all_connections, at_once, begun, claim, complete, is_acquired, outcomes, requests, spawned,
};
use crate::proxy;
use crate::support::{PATIENCE, Scratch, answer, backend, claimed, pool, rival};

#[tokio::test]
async fn record_that_cannot_be_read_fails_alone_in_its_group() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let (options, counts) = proxy::start(&scratch.options).await;
    let pool = pool(&options, 1);
    let store = Arc::new(scratch.store_on(pool.clone()));
    let mut records = Vec::new();
    for _ in 0..10 {
        records.push(claimed(&*store).await);
    }
    let bad = records[5].owner.key.to_hex();
    scratch
        .execute(&format!(
            r#"UPDATE "{{table}}" SET state = 3 WHERE key = '\x{bad}'"#
        ))
        .await;
    counts.take();
    let claims = records.iter().map(|record| claim(&store, rival(record)));
    for (place, claim) in at_once(&pool, claims).await.into_iter().enumerate() {
        match claim {
            Ok(Claim::InFlight { .. }) if place != 5 => {}
            Err(error) if place == 5 => assert_eq!(error.kind(), StoreErrorKind::Corrupt),
            claim => panic!("{place}: {claim:?}"),
        }
    }
    assert_eq!(counts.take().1, 2);
    scratch.clean_up().await;
}

#[tokio::test]
async fn operation_that_the_server_refuses_fails_alone() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let pool = scratch.pool(1);
    let store = Arc::new(scratch.store_on(pool.clone()));
    let requests = requests(20);
    let bad = requests[7].owner.key.to_hex();
    scratch
        .execute(&format!(
            r#"ALTER TABLE "{{table}}" ADD CHECK (key <> '\x{bad}')"#
        ))
        .await;
    let claims = requests.iter().map(|request| claim(&store, *request));
    for (place, claim) in at_once(&pool, claims).await.into_iter().enumerate() {
        match claim {
            Ok(claim) if place != 7 => assert!(is_acquired(&claim), "{place}: {claim:?}"),
            Err(error) if place == 7 => assert_eq!(error.kind(), StoreErrorKind::Rejected),
            claim => panic!("{place}: {claim:?}"),
        }
    }
    scratch.clean_up().await;
}

/// The operator's transaction is open for as long as the test wants.
#[tokio::test]
async fn operation_that_waits_for_a_row_holds_up_no_other() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let pool = scratch.pool(2);
    let store = Arc::new(scratch.store_on(pool.clone()));
    let mut records = Vec::new();
    for _ in 0..20 {
        records.push(claimed(&*store).await);
    }
    let (holder, holding) = hold_row(&scratch, &records[9].owner.key).await;
    let response = answer();
    let held = all_connections(&pool).await;
    let completions = records
        .iter()
        .map(|record| complete(&store, record, &response));
    let mut completions = spawned(begun(completions));
    drop(held);
    let waits = completions.remove(9);
    for completion in completions {
        let completion = tokio::time::timeout(PATIENCE, completion).await.unwrap();
        assert_eq!(completion.unwrap().unwrap(), Completion::Stored);
    }
    scratch.until_blocked_by(holder, 1).await;
    // Others go on, while it waits.
    claimed(&*store).await;
    assert!(!waits.is_finished());
    holding.rollback().await.unwrap();
    assert_eq!(waits.await.unwrap().unwrap(), Completion::Stored);

    // The time-out of the group has not stayed with a connection.
    for mut connection in all_connections(&pool).await {
        let limit: String = sqlx::query_scalar("SHOW lock_timeout")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        assert_eq!(limit, "0");
    }
    scratch.clean_up().await;
}

/// Stuck ones that went alone are not what the queue waits for.
#[tokio::test]
async fn queue_does_not_wait_for_those_that_went_alone() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    // Two of three may go alone.
    let pool = scratch.pool(3);
    let store = Arc::new(scratch.store_on(pool.clone()));
    let (record, other) = (claimed(&*store).await, claimed(&*store).await);
    let (holder, holding) = hold_row(&scratch, &record.owner.key).await;
    let response = answer();
    let stuck = spawned(begun(
        [(); 2].map(|()| complete(&store, &record, &response)),
    ));
    scratch.until_blocked_by(holder, 1).await;
    let completed = tokio::time::timeout(PATIENCE, store.complete(&other.owner, &response)).await;
    assert_eq!(completed.unwrap().unwrap(), Completion::Stored);
    holding.rollback().await.unwrap();
    for stuck in stuck {
        stuck.await.unwrap().unwrap();
    }
    scratch.clean_up().await;
}

#[tokio::test]
async fn callers_that_go_away_strand_nobody() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let pool = scratch.pool(2);
    let store = Arc::new(scratch.store_on(pool.clone()));
    let requests = requests(60);
    let held = all_connections(&pool).await;
    let calls = begun(requests.iter().map(|request| claim(&store, *request)));
    let (mut gone, mut staying) = (Vec::new(), Vec::new());
    for (place, call) in calls.into_iter().enumerate() {
        match place % 2 {
            0 => gone.push(call),
            _ => staying.push(call),
        }
    }
    // One that goes alone among them, and the one that has started the task.
    drop(gone);
    drop(held);
    for claim in outcomes(staying).await {
        assert!(is_acquired(&claim.unwrap()));
    }
    for (place, request) in requests.iter().enumerate() {
        let record = store.get(&request.owner.key).await.unwrap();
        assert_eq!(record.is_some(), place % 2 == 1, "{place}");
    }

    // While the server is at it: the group waits for a row.
    let records: Vec<_> = requests.iter().skip(1).step_by(2).collect();
    let (holder, holding) = hold_row(&scratch, &records[3].owner.key).await;
    let response = answer();
    let held = all_connections(&pool).await;
    let completions = records
        .iter()
        .map(|record| complete(&store, record, &response));
    let mut completions = spawned(begun(completions));
    drop(held);
    scratch.until_blocked_by(holder, 1).await;
    for place in (0..completions.len()).rev().filter(|place| place % 2 == 0) {
        completions.remove(place).abort();
    }
    holding.rollback().await.unwrap();
    for completion in completions {
        let completion = tokio::time::timeout(PATIENCE, completion).await.unwrap();
        assert_eq!(completion.unwrap().unwrap(), Completion::Stored);
    }
    claimed(&*store).await;
    scratch.clean_up().await;
}

/// The task that would have sent the group ends with the runtime that it runs on.
#[tokio::test]
async fn runtime_that_ends_strands_nobody() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let pool = scratch.pool(1);
    let store = Arc::new(scratch.store_on(pool.clone()));
    let held = all_connections(&pool).await;
    let other = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let theirs = std::thread::spawn({
        let store = Arc::clone(&store);
        move || {
            let calls = other.block_on(async {
                let calls = begun(requests(3).into_iter().map(|new| claim(&store, new)));
                tokio::task::yield_now().await;
                calls
            });
            (other, calls)
        }
    });
    let (other, theirs) = theirs.join().unwrap();
    let ours = begun(requests(10).into_iter().map(|new| claim(&store, new)));
    std::thread::spawn(move || drop((theirs, other)))
        .join()
        .unwrap();
    drop(held);
    for claim in outcomes(ours).await {
        assert!(is_acquired(&claim.unwrap()));
    }
    scratch.clean_up().await;
}

#[tokio::test]
async fn pool_without_a_free_connection_is_a_time_out_for_all() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    for connections in [1, 3] {
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_millis(200))
            .connect_lazy_with(scratch.options.clone());
        let store = Arc::new(scratch.store_on(pool.clone()));
        let held = all_connections(&pool).await;
        let claims = begun(requests(20).into_iter().map(|new| claim(&store, new)));
        for claim in outcomes(claims).await {
            assert_eq!(claim.unwrap_err().kind(), StoreErrorKind::TimedOut);
        }
        drop(held);
        claimed(&*store).await;
    }
    scratch.clean_up().await;
}

/// The server ends the connection between the pool's hands and the group's statement.
#[tokio::test]
async fn connection_that_is_lost_fails_no_operation_of_a_group() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let (admin, kills) = (scratch.admin.clone(), Arc::new(AtomicU32::new(0)));
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(PATIENCE)
        .test_before_acquire(false)
        .before_acquire({
            let kills = Arc::clone(&kills);
            move |connection, _| {
                let (admin, kills) = (admin.clone(), Arc::clone(&kills));
                Box::pin(async move {
                    if kills.fetch_add(1, Ordering::SeqCst) == 0 {
                        let victim = backend(connection).await;
                        sqlx::query("SELECT pg_terminate_backend($1)")
                            .bind(victim)
                            .execute(&admin)
                            .await?;
                    }
                    Ok(true)
                })
            }
        })
        .connect_lazy_with(scratch.options.clone());
    let store = Arc::new(scratch.store_on(pool.clone()));
    let held = all_connections(&pool).await;
    let mut calls = begun(requests(11).into_iter().map(|new| claim(&store, new)));
    // It is the group that gets the connection first.
    drop(calls.remove(0));
    drop(held);
    for claim in outcomes(calls).await {
        assert!(is_acquired(&claim.unwrap()));
    }
    assert!(kills.load(Ordering::SeqCst) > 1, "the group, then others");
    scratch.clean_up().await;
}

async fn hold_row(
    scratch: &Scratch,
    key: &RecordKey,
) -> (i32, sqlx::Transaction<'static, Postgres>) {
    let mut transaction = scratch.admin.begin().await.unwrap();
    let lock = format!(
        r#"SELECT pg_backend_pid() FROM "{}" WHERE key = $1 FOR UPDATE"#,
        scratch.table
    );
    let holder = sqlx::query_scalar(AssertSqlSafe(lock))
        .bind(&key.as_bytes()[..])
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    (holder, transaction)
}
