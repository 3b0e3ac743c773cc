//! Two at one record, in an order that is forced: one holds the row, the other waits for it.

use std::sync::Arc;
use std::time::Duration;

use idempotent_runtime::store::postgres::PostgresStore;
use idempotent_runtime::store::{
    Acquired, Claim, ClaimRequest, Completion, Renewal, Renewed, Store,
};
use sqlx::{AssertSqlSafe, Postgres, Transaction};

use crate::support::{PATIENCE, Scratch, TTL, answer, backend, claimed, request, rival};

/// Claims while another transaction has written the statement's change and not committed it; the
/// other one is committed, or rolled back, when the claim waits for it.
async fn claim_during(
    scratch: &Scratch,
    change: &str,
    request: &ClaimRequest<'static>,
    commit: bool,
) -> Claim {
    let store = Arc::new(scratch.store(1));
    let (holder, transaction) = uncommitted(scratch, change, request).await;
    let claim = tokio::spawn({
        let (store, request): (Arc<PostgresStore>, _) = (store, *request);
        async move { store.claim(&request).await.unwrap() }
    });
    scratch.until_blocked_by(holder, 1).await;
    if commit {
        transaction.commit().await.unwrap();
    } else {
        transaction.rollback().await.unwrap();
    }
    claim.await.unwrap()
}

async fn uncommitted(
    scratch: &Scratch,
    change: &str,
    request: &ClaimRequest<'_>,
) -> (i32, Transaction<'static, Postgres>) {
    let mut transaction = scratch.admin.begin().await.unwrap();
    let holder = backend(&mut *transaction).await;
    let changed = sqlx::query(AssertSqlSafe(change.replace("{table}", &scratch.table)))
        .bind(&request.owner.key.as_bytes()[..])
        .execute(&mut *transaction)
        .await
        .unwrap();
    assert_eq!(changed.rows_affected(), 1);
    (holder, transaction)
}

fn complete() -> String {
    let hex: String = answer()
        .encode()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!(r#"UPDATE "{{table}}" SET state = 2, response = '\x{hex}' WHERE record_key = $1"#)
}

/// A record whose lease has ended, and a claim that would take it over.
async fn abandoned(scratch: &Scratch) -> ClaimRequest<'static> {
    let store = scratch.store(1);
    let old = ClaimRequest {
        lease: Duration::ZERO,
        ..request()
    };
    store.claim(&old).await.unwrap();
    let claim = store.claim(&rival(&old)).await.unwrap();
    assert!(
        matches!(claim, Claim::Abandoned { attempt: 1, .. }),
        "{claim:?}"
    );
    ClaimRequest {
        take_over: Some(1),
        lease: request().lease,
        ..rival(&old)
    }
}

const RENEW: &str = r#"UPDATE "{table}" SET lease_until = clock_timestamp() + interval '1 hour' WHERE record_key = $1"#;
const TAKE_OVER: &str = r#"UPDATE "{table}" SET attempt = 2, token = decode(repeat('07', 16), 'hex') WHERE record_key = $1"#;
const RELEASE: &str = r#"DELETE FROM "{table}" WHERE record_key = $1"#;
const REPLACE: &str = r#"UPDATE "{table}" SET expires_at = clock_timestamp() + interval '1 hour',
    lease_until = clock_timestamp() + interval '1 hour' WHERE record_key = $1"#;
const INSERT: &str = r#"INSERT INTO "{table}"
    (record_key, fingerprint, state, token, attempt, operation, created_at, lease_until, expires_at, purge_at)
    VALUES ($1, decode(repeat('07', 32), 'hex'), 1, decode(repeat('07', 16), 'hex'), 1, '',
    now(), now() + interval '1 hour', now() + interval '1 hour', now() + interval '1 hour')"#;

#[tokio::test]
async fn take_over_that_waited_judges_the_record_anew() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let heir = abandoned(&scratch).await;
    let claim = claim_during(&scratch, RENEW, &heir, true).await;
    assert!(
        matches!(claim, Claim::InFlight { .. }),
        "renewed: {claim:?}"
    );

    let heir = abandoned(&scratch).await;
    let claim = claim_during(&scratch, &complete(), &heir, true).await;
    assert!(matches!(claim, Claim::Completed(_)), "completed: {claim:?}");

    let heir = abandoned(&scratch).await;
    let claim = claim_during(&scratch, TAKE_OVER, &heir, true).await;
    assert!(
        matches!(claim, Claim::Abandoned { attempt: 2, .. }),
        "taken over: {claim:?}"
    );

    let heir = abandoned(&scratch).await;
    let claim = claim_during(&scratch, RELEASE, &heir, true).await;
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
        "released: {claim:?}"
    );

    let heir = abandoned(&scratch).await;
    let claim = claim_during(&scratch, RENEW, &heir, false).await;
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 2, .. })),
        "rolled back: {claim:?}"
    );
    scratch.clean_up().await;
}

#[tokio::test]
async fn claim_of_an_expired_key_that_waited_judges_the_record_anew() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let expired = || ClaimRequest {
        lease: Duration::ZERO,
        retention: Duration::ZERO,
        ..request()
    };
    for (change, commit) in [(REPLACE, true), (RELEASE, true), (REPLACE, false)] {
        let old = expired();
        scratch.store(1).claim(&old).await.unwrap();
        let new = ClaimRequest {
            lease: request().lease,
            retention: request().retention,
            ..rival(&old)
        };
        let claim = claim_during(&scratch, change, &new, commit).await;
        match (change == REPLACE, commit) {
            (true, true) => assert!(matches!(claim, Claim::InFlight { .. }), "{claim:?}"),
            _ => assert!(
                matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
                "{claim:?}"
            ),
        }
    }
    scratch.clean_up().await;
}

#[tokio::test]
async fn claim_that_waited_for_an_insert_sees_what_became_of_it() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let claim = claim_during(&scratch, INSERT, &request(), true).await;
    assert!(matches!(claim, Claim::Mismatch), "{claim:?}");
    let claim = claim_during(&scratch, INSERT, &request(), false).await;
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
        "{claim:?}"
    );
    scratch.clean_up().await;
}

/// What was completed goes first. What never was goes too, as soon as there is room for it, and is named.
#[tokio::test]
async fn purge_comes_to_what_was_never_completed() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    claimed(&store).await;
    for _ in 0..3 {
        let completed = claimed(&store).await;
        let done = store.complete(&completed.owner, &answer(), TTL).await;
        assert_eq!(done.unwrap(), Completion::Stored);
    }
    scratch
        .execute(
            r#"UPDATE "{table}" SET expires_at = now() - interval '1 second',
               purge_at = CASE state WHEN 2 THEN now() - interval '1 second' END"#,
        )
        .await;
    let mut purges = Vec::new();
    for _ in 0..3 {
        let purged = store.purge_expired(2).await.unwrap();
        purges.push((purged.records, purged.abandoned.len()));
    }
    assert_eq!(purges, [(2, 0), (2, 1), (0, 0)]);
    scratch.clean_up().await;
}

/// While one process sweeps, the others do nothing; and a row that a transaction holds is left for the
/// next time.
#[tokio::test]
async fn purge_waits_for_nobody() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let held = ClaimRequest {
        lease: Duration::ZERO,
        retention: Duration::ZERO,
        ..request()
    };
    store.claim(&held).await.unwrap();
    for _ in 0..3 {
        store
            .claim(&ClaimRequest {
                owner: request().owner,
                ..held
            })
            .await
            .unwrap();
    }
    let alive = claimed(&store).await;

    let mut sweeper = scratch.admin.begin().await.unwrap();
    let lock =
        "SELECT pg_advisory_xact_lock(hashtextextended('idempotent-runtime sweep ' || $1, 0))";
    sqlx::query(lock)
        .bind(&scratch.table)
        .execute(&mut *sweeper)
        .await
        .unwrap();
    assert_eq!(store.purge_expired(10).await.unwrap().records, 0);
    sweeper.rollback().await.unwrap();

    let (_, transaction) = uncommitted(&scratch, REPLACE, &held).await;
    let purged = tokio::time::timeout(PATIENCE, store.purge_expired(2)).await;
    let purged = purged.unwrap().unwrap();
    assert_eq!(purged.records, 2);
    // They were never completed.
    let operations = purged.abandoned.iter().map(|claim| &*claim.operation);
    assert_eq!(operations.collect::<Vec<_>>(), ["POST /payments"; 2]);
    assert_eq!(store.purge_expired(10).await.unwrap().records, 1);
    transaction.commit().await.unwrap();
    assert_eq!(store.purge_expired(10).await.unwrap().records, 0);
    assert!(store.get(&held.owner.key).await.unwrap().is_some());
    assert!(store.get(&alive.owner.key).await.unwrap().is_some());
    scratch.clean_up().await;
}

/// Not even one whose response is of a route with a short TTL: its renewal would be busy until the sweep has committed.
#[tokio::test]
async fn sweep_locks_no_record_that_is_alive() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let brief = claimed(&store).await;
    let response = answer();
    let ttl = Duration::from_micros(1);
    store.complete(&brief.owner, &response, ttl).await.unwrap();
    let dead = ClaimRequest {
        lease: Duration::ZERO,
        retention: Duration::ZERO,
        ..request()
    };
    store.claim(&dead).await.unwrap();
    let (running, completed) = (claimed(&store).await, claimed(&store).await);
    store
        .complete(&completed.owner, &response, TTL)
        .await
        .unwrap();

    let mut sweep = scratch.admin.begin().await.unwrap();
    let purge = include_str!("../../src/store/postgres/sql/purge.sql")
        .replace("{schema}", "public")
        .replace("{table}", &scratch.table);
    let swept = sqlx::query(AssertSqlSafe(purge)).bind(10_i64);
    assert_eq!(swept.fetch_all(&mut *sweep).await.unwrap().len(), 2);
    let renewal = Renewal {
        owner: running.owner,
        lease: running.lease,
        retention: running.retention,
    };
    let renewed = store.renew(&[renewal]).await.remove(0);
    assert_eq!(renewed.unwrap(), Renewed::Renewed);
    let locks = format!(
        r#"SELECT count(*) FROM (SELECT FROM "{}" FOR UPDATE SKIP LOCKED) AS free"#,
        scratch.table
    );
    let free: i64 = sqlx::query_scalar(AssertSqlSafe(locks))
        .fetch_one(&scratch.admin)
        .await
        .unwrap();
    assert_eq!(free, 2);
    sweep.commit().await.unwrap();
    scratch.clean_up().await;
}
