//! The marks of those who wait: without one, no process is told of anything.

use std::sync::Arc;

use idempotent_runtime::store::{
    Acquired, Claim, ClaimRequest, Completion, Progress, Release, Renewal, Store,
};
use sqlx::postgres::PgListener;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::time::timeout;

use crate::calls::{at_once, complete};
use crate::notifications::{abandoned, listened, must_wake, waiting};
use crate::support::{PATIENCE, Scratch, TTL, answer, backend, claimed, pool, request, rival};

/// As a process does for those who wait there; says whether the record is running.
async fn mark(
    scratch: &Scratch,
    connection: &mut PgConnection,
    request: &ClaimRequest<'_>,
) -> bool {
    let mark = format!(r#"SELECT "{}_wait"($1)"#, scratch.table);
    sqlx::query_scalar(AssertSqlSafe(mark))
        .bind(&request.owner.key.as_bytes()[..])
        .fetch_one(connection)
        .await
        .unwrap()
}

/// The record's key as the channel tells it.
fn hex(request: &ClaimRequest<'_>) -> String {
    let bytes = request.owner.key.as_bytes().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// The channel, and what was told on it until now.
struct Channel(PgListener);

impl Channel {
    async fn of(scratch: &Scratch) -> Self {
        let pool = pool(&scratch.options, 1);
        let mut listener = PgListener::connect_with(&pool).await.unwrap();
        let channel = format!("{}_done", scratch.table);
        listener.listen(&channel).await.unwrap();
        Self(listener)
    }

    /// Said last, so that there is something to wait for.
    async fn told(&mut self, scratch: &Scratch) -> Vec<String> {
        scratch.execute("NOTIFY \"{table}_done\", 'end'").await;
        let mut told = Vec::new();
        loop {
            let next = timeout(PATIENCE, self.0.recv()).await.unwrap().unwrap();
            if next.payload() == "end" {
                return told;
            }
            told.push(next.payload().to_owned());
        }
    }
}

#[tokio::test]
async fn completion_that_waited_for_the_mark_tells() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let mut channel = Channel::of(&scratch).await;
    let store = scratch.store(1);
    let request = claimed(&store).await;
    let mut marking = scratch.admin.begin().await.unwrap();
    let holder = backend(&mut *marking).await;
    assert!(mark(&scratch, &mut marking, &request).await);
    let response = answer();
    let committing = async {
        scratch.until_blocked_by(holder, 1).await;
        marking.commit().await.unwrap();
    };
    let (completed, ()) = tokio::join!(store.complete(&request.owner, &response, TTL), committing);
    assert_eq!(completed.unwrap(), Completion::Stored);
    assert_eq!(channel.told(&scratch).await, [hex(&request)]);
    scratch.clean_up().await;
}

#[tokio::test]
async fn completion_of_a_marked_record_tells_from_within_a_group() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let mut channel = Channel::of(&scratch).await;
    let store = Arc::new(scratch.store(1));
    let mut claims = Vec::new();
    for _ in 0..5 {
        claims.push(claimed(&*store).await);
    }
    let marked = claims[3];
    let mut marking = scratch.admin.begin().await.unwrap();
    assert!(mark(&scratch, &mut marking, &marked).await);
    marking.commit().await.unwrap();
    let response = answer();
    let completions = claims
        .iter()
        .map(|claim| complete(&store, claim, &response));
    for completion in at_once(completions).await {
        assert_eq!(completion.unwrap(), Completion::Stored);
    }
    assert_eq!(channel.told(&scratch).await, [hex(&marked)]);
    scratch.clean_up().await;
}

#[tokio::test]
async fn record_that_nobody_waits_for_is_not_marked_and_tells_nobody() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let mut channel = Channel::of(&scratch).await;
    let (here, there) = (scratch.store(1), scratch.store(1));
    listened(&here).await;
    let waited_for = claimed(&there).await;
    let woken = waiting(&scratch, &here, &waited_for).await;

    let completed = claimed(&there).await;
    // Only who waits asks for a mark: whether there are notifications at all is asked more often.
    drop(here.subscribe(&completed.owner.key));
    let released = claimed(&there).await;
    let old = abandoned(&there).await;
    let heir = ClaimRequest {
        take_over: Some(1),
        ..rival(&old)
    };
    there.claim(&heir).await.unwrap();
    there
        .complete(&completed.owner, &answer(), TTL)
        .await
        .unwrap();
    let release = there.release(&[released.owner]).await.remove(0).unwrap();
    assert_eq!(release, Release::Released);
    // Nor does what is no change.
    let ClaimRequest {
        owner,
        lease,
        retention,
        ..
    } = waited_for;
    let renewal = Renewal {
        owner,
        lease,
        retention,
    };
    there.renew(&[renewal]).await.remove(0).unwrap();
    let saved = there.save_progress(&owner, 0, &b"step 1"[..].into()).await;
    assert_eq!(saved.unwrap(), Progress::Saved);
    there.claim(&rival(&waited_for)).await.unwrap();
    assert_eq!(channel.told(&scratch).await, [""; 0]);

    let marks = format!(r#"SELECT count(*) FROM "{}" WHERE waited"#, scratch.table);
    let marks: i64 = sqlx::query_scalar(AssertSqlSafe(marks))
        .fetch_one(&scratch.admin)
        .await
        .unwrap();
    assert_eq!(marks, 1);
    there.complete(&owner, &answer(), TTL).await.unwrap();
    must_wake(woken, "completion").await;
    assert_eq!(channel.told(&scratch).await, [hex(&waited_for)]);

    // What is completed ends no more, whatever becomes of the row.
    assert!(there.remove(&owner.key).await.unwrap());
    assert_eq!(channel.told(&scratch).await, [""; 0]);
    scratch.clean_up().await;
}

#[tokio::test]
async fn record_is_marked_once_and_starts_over_without_the_mark() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let running = claimed(&store).await;
    let mut transaction = scratch.admin.begin().await.unwrap();
    assert!(mark(&scratch, &mut transaction, &running).await);
    transaction.commit().await.unwrap();

    let mut transaction = scratch.admin.begin().await.unwrap();
    assert!(mark(&scratch, &mut transaction, &running).await);
    assert!(
        !mark(&scratch, &mut transaction, &request()).await,
        "it is absent"
    );
    let has_written: bool = sqlx::query_scalar("SELECT txid_current_if_assigned() IS NOT NULL")
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    assert!(!has_written);
    transaction.rollback().await.unwrap();

    scratch
        .execute(r#"UPDATE "{table}" SET expires_at = clock_timestamp()"#)
        .await;
    let claim = store.claim(&rival(&running)).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
        "{claim:?}"
    );
    assert!(!scratch.is_marked(&running).await);
    scratch.clean_up().await;
}

/// The server's queue of notifications is full when a session that listens, to whatever channel of whatever database, has had a
/// transaction open for long. Completions of marked records failed at their commit (54000), and so did their release: such a
/// key was in flight until that session ended.
#[tokio::test]
async fn claim_ends_without_a_notification_where_their_queue_is_full() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    // In front of the server's own functions.
    scratch
        .execute(
            r#"CREATE SCHEMA "{table}";
               CREATE FUNCTION "{table}".pg_notification_queue_usage() RETURNS double precision
                   LANGUAGE sql AS 'SELECT 1::double precision';
               CREATE FUNCTION "{table}".pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS $$
                   BEGIN RAISE 'too many notifications in the NOTIFY queue' USING ERRCODE = '54000'; END $$"#,
        )
        .await;
    let path = format!("{},pg_catalog,public", scratch.table);
    let full = scratch.options.clone().options([("search_path", path)]);
    let store = scratch.store_on(pool(&full, 1)).with_schema("public");
    let completed = claimed(&store).await;
    let released = claimed(&store).await;
    let mut admin = scratch.admin.acquire().await.unwrap();
    for request in [&completed, &released] {
        assert!(mark(&scratch, &mut admin, request).await);
    }
    let stored = store.complete(&completed.owner, &answer(), TTL).await;
    assert_eq!(stored.unwrap(), Completion::Stored);
    let release = store.release(&[released.owner]).await.remove(0);
    assert_eq!(release.unwrap(), Release::Released);
    scratch.execute(r#"DROP SCHEMA "{table}" CASCADE"#).await;
    scratch.clean_up().await;
}
