//! What an operation costs, as the server counts it.

use std::time::Duration;

use bytes::Bytes;
use idempotent_runtime::store::{Claim, ClaimRequest, Completion, Progress, Renewal, Store};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::{AssertSqlSafe, MySqlPool, Row};

use crate::support::{Scratch, answer, claimed, request, rival};

/// One connection, which is used without asking first whether it is still there.
fn one_connection(scratch: &Scratch) -> MySqlPool {
    MySqlPoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false)
        .connect_lazy_with(scratch.options.clone())
}

/// The counters of the only connection that a pool has.
struct Counters {
    pool: MySqlPool,
    questions: u64,
    prepared: u64,
}

impl Counters {
    async fn of(pool: &MySqlPool) -> Self {
        let mut counters = Self {
            pool: pool.clone(),
            questions: 0,
            prepared: 0,
        };
        counters.take().await;
        counters
    }

    /// Statements that were prepared, and statements that were executed, since the last call.
    async fn take(&mut self) -> (u64, u64) {
        let names = ["Questions", "Com_stmt_prepare"];
        let [questions, prepared] = status(&self.pool, names).await;
        // To ask was a question too.
        let taken = (prepared - self.prepared, questions - self.questions - 1);
        (self.questions, self.prepared) = (questions, prepared);
        taken
    }
}

/// Counters of the connection, asked for in one statement that is not prepared.
async fn status<const N: usize>(pool: &MySqlPool, names: [&str; N]) -> [u64; N] {
    let list = names.map(|name| format!("'{name}'")).join(", ");
    let show = format!("SHOW SESSION STATUS WHERE Variable_name IN ({list})");
    let rows = sqlx::raw_sql(AssertSqlSafe(show)).fetch_all(pool);
    let rows = rows.await.unwrap();
    names.map(|name| {
        let row = rows.iter().find(|row| row.get::<&str, _>(0) == name);
        row.unwrap().get::<&str, _>(1).parse().unwrap()
    })
}

/// After its first use on a connection nothing is prepared any more.
#[tokio::test]
async fn each_operation_is_as_many_statements_as_is_said() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let pool = one_connection(&scratch);
    let store = scratch.store_on(pool.clone());
    let mut counters = Counters::of(&pool).await;
    for warm in [false, true] {
        let (one, two) = match warm {
            false => ((1, 1), (2, 2)),
            true => ((0, 1), (0, 2)),
        };
        let request = claimed(&store).await;
        assert_eq!(counters.take().await, two, "first claim");
        let renewal = Renewal {
            owner: request.owner,
            lease: Duration::ZERO,
        };
        store.renew(&[renewal]).await.unwrap();
        assert_eq!(counters.take().await, one, "renew");
        let heir = ClaimRequest {
            take_over: Some(1),
            ..rival(&request)
        };
        store.claim(&heir).await.unwrap();
        let prepared = u64::from(!warm);
        assert_eq!(counters.take().await, (prepared, 2), "take-over");
        for (progress, prepared) in [(&b"step 1"[..], prepared), (b"late", 0)] {
            let saved = store.save_progress(&heir.owner, &progress.into()).await;
            assert_eq!(saved.unwrap(), Progress::Saved);
            assert_eq!(counters.take().await, (prepared, 1), "save progress");
        }
        store.get(&request.owner.key).await.unwrap();
        assert_eq!(counters.take().await, one, "get");
        store.complete(&heir.owner, &answer()).await.unwrap();
        assert_eq!(counters.take().await, one, "complete");
        store.claim(&rival(&request)).await.unwrap();
        assert_eq!(counters.take().await, (0, 1), "replay");
        store.release(&request.owner).await.unwrap();
        assert_eq!(counters.take().await, one, "release");
        store.remove(&request.owner.key).await.unwrap();
        assert_eq!(counters.take().await, one, "remove");
        store.purge_expired(10).await.unwrap();
        assert_eq!(counters.take().await, one, "purge");
        store.renew(&[]).await.unwrap();
        assert_eq!(counters.take().await, (0, 0), "renewing nothing");
    }
    scratch.clean_up().await;
}

/// Three leases, three statements, however many claims there are of each.
#[tokio::test]
async fn renewals_are_a_statement_for_each_length_of_lease() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let pool = one_connection(&scratch);
    let store = scratch.store_on(pool.clone());
    let mut renewals = Vec::new();
    for number in 0..30 {
        let owner = claimed(&store).await.owner;
        let lease = Duration::from_secs(100 + number % 3);
        renewals.push(Renewal { owner, lease });
    }
    store.renew(&renewals).await.unwrap();
    let mut counters = Counters::of(&pool).await;
    assert_eq!(store.renew(&renewals).await.unwrap(), []);
    assert_eq!(counters.take().await, (0, 3));
    scratch.clean_up().await;
}

const WRITES: [&str; 3] = ["Handler_write", "Handler_update", "Handler_delete"];

/// The server itself refuses to write in such a transaction, and counts no row that was.
#[tokio::test]
async fn replay_writes_nothing() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let store = scratch.store(1);
    let (completed, running) = (claimed(&store).await, claimed(&store).await);
    let progress = Bytes::from_static(b"step 1");
    let saved = store.save_progress(&running.owner, &progress).await;
    assert_eq!(saved.unwrap(), Progress::Saved);
    let completion = store.complete(&completed.owner, &answer()).await;
    assert_eq!(completion.unwrap(), Completion::Stored);

    let pool = one_connection(&scratch);
    let store = scratch.store_on(pool.clone());
    let begin = sqlx::raw_sql("START TRANSACTION READ ONLY").execute(&pool);
    begin.await.unwrap();
    let before = status(&pool, WRITES).await;
    for _ in 0..20 {
        let claim = store.claim(&rival(&completed)).await.unwrap();
        assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
        let claim = store.claim(&rival(&running)).await.unwrap();
        assert!(matches!(claim, Claim::InFlight { .. }), "{claim:?}");
        let claim = store.claim(&running).await.unwrap();
        assert!(
            matches!(claim, Claim::Acquired { attempt: 1, .. }),
            "{claim:?}"
        );
        store.get(&completed.owner.key).await.unwrap();
    }
    assert_eq!(status(&pool, WRITES).await, before);
    store.claim(&request()).await.unwrap_err();
    scratch.clean_up().await;
}
