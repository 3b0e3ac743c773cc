//! Operations of a group that fail or wait, callers that go away, connections that are lost or not there.

use idempotent_runtime::RecordKey;
use idempotent_runtime::store::{Claim, Completion, Store, StoreErrorKind};
use sqlx::{AssertSqlSafe, Postgres};
use std::sync::Arc;

use crate::calls::{at_once, begun, claim, complete, is_acquired, outcomes, requests, spawned};
use crate::proxy;
use crate::support::{PATIENCE, Scratch, TTL, answer, backend, claimed, pool, rival};

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
            r#"UPDATE "{{table}}" SET state = 3 WHERE record_key = '\x{bad}'"#
        ))
        .await;
    counts.take();
    let claims = records.iter().map(|record| claim(&store, rival(record)));
    for (place, claim) in at_once(claims).await.into_iter().enumerate() {
        match claim {
            Ok(Claim::InFlight { .. }) if place != 5 => {}
            Err(error) if place == 5 => assert_eq!(error.kind(), StoreErrorKind::Corrupt),
            claim => panic!("{place}: {claim:?}"),
        }
    }
    assert_eq!(counts.take().1, 3, "two alone, and a group");
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
            r#"ALTER TABLE "{{table}}" ADD CHECK (record_key <> '\x{bad}')"#
        ))
        .await;
    let claims = requests.iter().map(|request| claim(&store, *request));
    for (place, claim) in at_once(claims).await.into_iter().enumerate() {
        match claim {
            Ok(claim) if place != 7 => assert!(is_acquired(&claim), "{place}: {claim:?}"),
            Err(error) if place == 7 => assert_eq!(error.kind(), StoreErrorKind::Refused),
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
    let completions = records
        .iter()
        .map(|record| complete(&store, record, &response));
    let mut completions = spawned(begun(completions));
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
    let completed =
        tokio::time::timeout(PATIENCE, store.complete(&other.owner, &response, TTL)).await;
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
    let completions = records
        .iter()
        .map(|record| complete(&store, record, &response));
    let mut completions = spawned(begun(completions));
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

/// The task that would have sent the group ends with the runtime that it runs on, and that runtime's
/// connections with it. Before that, it stands still.
#[tokio::test]
async fn runtime_that_stands_still_or_ends_strands_nobody() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = Arc::new(scratch.store(1));
    let other = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let theirs = std::thread::spawn({
        let store = Arc::clone(&store);
        move || {
            let calls = other.block_on(async {
                claimed(&*store).await;
                let calls = begun(requests(3).into_iter().map(|new| claim(&store, new)));
                tokio::task::yield_now().await;
                calls
            });
            (other, calls)
        }
    });
    let (other, theirs) = theirs.join().unwrap();
    for round in ["it stands still", "it is gone"] {
        let ours = begun(requests(10).into_iter().map(|new| claim(&store, new)));
        for claim in outcomes(ours).await {
            assert!(is_acquired(&claim.unwrap()), "{round}");
        }
        if round == "it stands still" {
            assert!(scratch.backends().await.len() > 2, "connections of both");
        }
    }
    std::thread::spawn(move || drop((theirs, other)))
        .join()
        .unwrap();
    let ours = begun(requests(10).into_iter().map(|new| claim(&store, new)));
    for claim in outcomes(ours).await {
        assert!(is_acquired(&claim.unwrap()));
    }
    scratch.until_backends(2).await;
    scratch.clean_up().await;
}

/// Each is behind a lock on the table, and the lane is full of them.
#[tokio::test]
async fn lane_without_a_free_connection_says_that_nothing_was_executed() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = Arc::new(scratch.store(2));
    let record = claimed(&*store).await;
    let mut holding = scratch.admin.begin().await.unwrap();
    let holder = backend(&mut *holding).await;
    let lock = format!(r#"LOCK TABLE "{}""#, scratch.table);
    sqlx::raw_sql(AssertSqlSafe(lock))
        .execute(&mut *holding)
        .await
        .unwrap();
    let get = || {
        let (store, key) = (Arc::clone(&store), record.owner.key);
        tokio::spawn(async move { store.get(&key).await })
    };
    let stuck = [get(), get()];
    scratch.until_blocked_by(holder, 2).await;
    let error = tokio::time::timeout(PATIENCE, get()).await.unwrap();
    let error = error.unwrap().unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TimedOut);
    assert!(!error.may_have_happened());
    // What is about leases has connections of its own.
    let release = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.release(&[record.owner]).await }
    });
    scratch.until_blocked_by(holder, 3).await;
    holding.rollback().await.unwrap();
    for stuck in stuck {
        stuck.await.unwrap().unwrap();
    }
    assert!(release.await.unwrap()[0].is_ok());
    scratch.clean_up().await;
}

/// The server ends all connections while they are idle.
#[tokio::test]
async fn connection_that_is_lost_fails_no_operation_of_a_group() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = Arc::new(scratch.store(1));
    let first = begun(requests(11).into_iter().map(|new| claim(&store, new)));
    for claim in outcomes(first).await {
        assert!(is_acquired(&claim.unwrap()));
    }
    let backends = scratch.backends().await;
    assert_eq!(backends.len(), 2, "one alone, and the group's");
    for backend in backends {
        scratch.kill(backend).await;
    }
    let mut calls = begun(requests(11).into_iter().map(|new| claim(&store, new)));
    // Only the group.
    drop(calls.remove(0));
    for claim in outcomes(calls).await {
        assert!(is_acquired(&claim.unwrap()));
    }
    scratch.clean_up().await;
}

async fn hold_row(
    scratch: &Scratch,
    key: &RecordKey,
) -> (i32, sqlx::Transaction<'static, Postgres>) {
    let mut transaction = scratch.admin.begin().await.unwrap();
    let lock = format!(
        r#"SELECT pg_backend_pid() FROM "{}" WHERE record_key = $1 FOR UPDATE"#,
        scratch.table
    );
    let holder = sqlx::query_scalar(AssertSqlSafe(lock))
        .bind(&key.as_bytes()[..])
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    (holder, transaction)
}
