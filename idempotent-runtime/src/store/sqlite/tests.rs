use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqliteJournalMode, SqliteLockingMode, SqliteSynchronous};
use tokio::task::JoinHandle;

use super::claim::TryClaim;
use super::database::Purpose;
use super::error::Undone;
use super::job::{Batchable, Job, WriteOperation};
use super::row::Columns;
use super::session::{Location, WriteSession};
use super::*;
use crate::fingerprint::Fingerprint;
use crate::record::{RecordState, Token};
use crate::store::StoreErrorKind;
use crate::store::waiters::Waiters;

struct File(PathBuf);

impl File {
    fn new() -> Self {
        let random = u128::from_le_bytes(*Token::random().unwrap().as_bytes());
        Self(std::env::temp_dir().join(format!("idempotent-sqlite-{random:032x}.db")))
    }

    async fn store(&self) -> SqliteStore {
        let url = format!("sqlite:{}", self.0.display());
        SqliteStore::connect(&url).await.unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        for extension in ["db", "db-wal", "db-shm"] {
            std::fs::remove_file(self.0.with_extension(extension)).ok();
        }
    }
}

async fn session(store: &SqliteStore) -> WriteSession {
    let session = WriteSession::open(
        &store.records.database,
        Purpose::Write,
        &store.records.statements,
    )
    .await;
    session.unwrap()
}

#[tokio::test]
async fn the_writer_waits_for_the_disk() {
    let file = File::new();
    let store = file.store().await;
    let mut session = session(&store).await;
    assert!(session.location == Location::File);
    for (pragma, full) in [
        ("synchronous", 2),
        ("fullfsync", 1),
        ("checkpoint_fullfsync", 1),
    ] {
        let query = AssertSqlSafe(format!("PRAGMA {pragma}"));
        let value: i64 = sqlx::query_scalar(query)
            .fetch_one(&mut session.connection)
            .await
            .unwrap();
        assert_eq!(value, full, "{pragma}");
    }
}

/// Whatever the pool's options say.
#[tokio::test]
async fn careless_options_of_a_pool_are_overruled() {
    let file = File::new();
    let options = SqliteConnectOptions::new()
        .filename(&file.0)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Off)
        .locking_mode(SqliteLockingMode::Exclusive)
        .synchronous(SqliteSynchronous::Off);
    let store = SqliteStore::new(SqlitePool::connect_lazy_with(options));
    let mut session = session(&store).await;
    assert!(session.location == Location::File, "not in WAL mode");
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(&mut session.connection)
        .await
        .unwrap();
    assert_eq!(synchronous, 2);
    let locking: String = sqlx::query_scalar("PRAGMA locking_mode")
        .fetch_one(&mut session.connection)
        .await
        .unwrap();
    assert_eq!(locking, "normal");
}

#[tokio::test]
async fn no_statement_scans_the_table() {
    let file = File::new();
    let store = file.store().await;
    let mut session = session(&store).await;
    let Statements {
        read,
        renew,
        complete,
        read_all,
        claim_all,
        complete_all,
        complete_and_reschedule,
        renew_all,
        release,
        release_all,
        abandon,
        abandon_all,
        save_progress,
        progress_of,
        remove,
        postpone,
        purge,
        ..
    } = store.records.statements.clone();
    let batches = [
        &read_all,
        &claim_all,
        &complete_all,
        &renew_all,
        &release_all,
        &abandon_all,
    ];
    let batches = [2, 64].map(|rows| batches.map(|all| all.of(rows).unwrap()));
    let single = [
        read,
        renew,
        complete,
        complete_and_reschedule,
        release,
        abandon,
        save_progress,
        progress_of,
        remove,
        postpone,
        purge,
    ];
    for statement in single.into_iter().chain(batches.into_iter().flatten()) {
        let query = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", statement.as_str()));
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(query)
            .fetch_all(&mut session.connection)
            .await
            .unwrap();
        let is_search = |step: &(i64, i64, i64, String)| {
            // Of what it was given.
            let is_of_rows = matches!(step.3.as_str(), "SCAN done" | "SCAN item")
                || step.3.ends_with("-ROW VALUES CLAUSE");
            is_of_rows || !step.3.contains("SCAN")
        };
        assert!(
            plan.iter().all(is_search),
            "{}: {plan:?}",
            statement.as_str()
        );
    }
}

/// A claim that counts how often it is run by itself.
struct Asked {
    request: TryClaim,
    alone: Arc<AtomicUsize>,
}

#[async_trait]
impl Job for Asked {
    fn needs_table(&self) -> bool {
        true
    }

    fn batchable(&self) -> Option<&dyn Batchable> {
        self.request.batchable()
    }

    fn has_written(&mut self) {}

    fn refuse(&mut self, _error: StoreError) {}

    async fn run(&mut self, _session: &mut WriteSession) -> Result<(), sqlx::Error> {
        self.alone.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn answer(self: Box<Self>, _undone: Option<&StoreError>, _waiters: &Waiters) {}
}

fn request(key: u8, token: u8) -> ClaimRequest<'static> {
    ClaimRequest {
        owner: Owner {
            key: RecordKey::from_bytes([key; 32]),
            token: Token::from_bytes([token; 16]),
        },
        fingerprint: Fingerprint::from_bytes([0; 32]),
        operation: "test",
        label: None,
        lease: Duration::from_secs(60),
        retention: Duration::from_secs(60),
        progress: &[],
        take_over: None,
    }
}

/// How many of these claims are run by themselves.
async fn alone(
    session: &mut WriteSession,
    requests: impl IntoIterator<Item = ClaimRequest<'static>>,
) -> usize {
    let alone = Arc::new(AtomicUsize::new(0));
    let job = |request| -> Box<dyn Job> {
        let alone = Arc::clone(&alone);
        let request = TryClaim::new(&request, Duration::from_secs(60));
        Box::new(Asked { request, alone })
    };
    let mut jobs: Vec<_> = requests.into_iter().map(job).collect();
    batch::run(&mut jobs, session).await.unwrap();
    alone.load(Ordering::Relaxed)
}

#[tokio::test]
async fn claims_of_a_group_are_run_alone_only_if_one_has_not_written() {
    let file = File::new();
    let store = file.store().await;
    let mut session = session(&store).await;
    let new = |keys: std::ops::Range<u8>| keys.map(|key| request(key, 1));
    assert_eq!(alone(&mut session, new(0..100)).await, 0);
    assert_eq!(alone(&mut session, new(99..102)).await, 3);
    // The second of a record comes after the first, and all that is before it.
    let of_one = [request(110, 1), request(111, 1), request(111, 2)];
    assert_eq!(alone(&mut session, of_one).await, 1);
}

/// Look-ups that find all connections busy.
async fn look_ups(
    store: &Arc<SqliteStore>,
    keys: impl IntoIterator<Item = u8>,
) -> Vec<JoinHandle<Result<Option<Columns>, sqlx::Error>>> {
    let busy = store
        .records
        .readers
        .permits
        .acquire_many(readers::MOST)
        .await
        .unwrap();
    let look_up = |key| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let read = store.records.statements.read.clone();
            let key = RecordKey::from_bytes([key; 32]);
            store.records.readers.look_up(read, &key).await
        })
    };
    let look_ups: Vec<_> = keys.into_iter().map(look_up).collect();
    // All have been polled once then.
    tokio::task::yield_now().await;
    drop(busy);
    look_ups
}

async fn claimed(store: &SqliteStore, keys: std::ops::Range<u8>) {
    for key in keys {
        let claim = store.claim(&request(key, key)).await.unwrap();
        assert!(matches!(claim, Claim::Acquired { .. }), "{claim:?}");
    }
}

#[tokio::test]
async fn look_ups_of_one_group_have_an_answer_each() {
    let file = File::new();
    let store = Arc::new(file.store().await);
    claimed(&store, 0..50).await;
    // Others than those that are there, and each twice.
    let keys: Vec<u8> = (25..75).flat_map(|key| [key, key]).collect();
    let look_ups = look_ups(&store, keys.clone()).await;
    // They are answered without any of these.
    let _busy = store
        .records
        .readers
        .permits
        .acquire_many(readers::MOST)
        .await
        .unwrap();
    for (key, look_up) in keys.into_iter().zip(look_ups) {
        let columns = look_up.await.unwrap().unwrap();
        let token = columns.and_then(|columns| columns.1);
        assert_eq!(token, (key < 50).then(|| vec![key; 16]), "{key}");
    }
}

#[tokio::test]
async fn look_up_that_fails_does_not_fail_its_neighbours() {
    let file = File::new();
    let store = Arc::new(file.store().await);
    claimed(&store, 0..5).await;
    let no_text = "UPDATE idempotency_records SET state = CAST(x'ff' AS TEXT) WHERE token = ?1";
    sqlx::query(no_text)
        .bind(vec![2_u8; 16])
        .execute(&mut session(&store).await.connection)
        .await
        .unwrap();
    for (key, look_up) in look_ups(&store, 0..5).await.into_iter().enumerate() {
        let columns = look_up.await.unwrap();
        assert_eq!(columns.is_err(), key == 2, "{key}: {columns:?}");
    }
}

#[tokio::test]
async fn readers_cannot_write() {
    let file = File::new();
    let store = file.store().await;
    let key = RecordKey::from_bytes([1; 32]);
    let remove = store.records.statements.remove.clone();
    let error = store.records.readers.fetch(remove, &key).await.unwrap_err();
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    assert_eq!(code.as_deref(), Some("8"), "not read-only: {error:?}");
}

/// An answer about a lease must not mistake the time that the look took for the lease's.
#[tokio::test]
async fn lease_that_ends_during_a_look_was_running() {
    const TICK: Duration = Duration::from_millis(2);
    let file = File::new();
    let store = Arc::new(file.store().await);
    claimed(&store, 1..2).await;
    let key = RecordKey::from_bytes([1; 32]);
    let busy = store
        .records
        .readers
        .permits
        .acquire_many(readers::MOST)
        .await
        .unwrap();
    let mut look = Box::pin(store.get(&key));
    assert!(futures_util::poll!(&mut look).is_pending());
    // The look has begun. The lease ends later than that, and before the record is read.
    tokio::time::sleep(TICK).await;
    sqlx::query("UPDATE idempotency_records SET lease_until = ?1")
        .bind(Time::now().0)
        .execute(&mut session(&store).await.connection)
        .await
        .unwrap();
    tokio::time::sleep(TICK).await;
    drop(busy);
    let record = look.await.unwrap().unwrap();
    assert!(matches!(record.state, RecordState::Running { .. }));
    let record = store.get(&key).await.unwrap().unwrap();
    assert!(matches!(record.state, RecordState::Abandoned));
}

struct Panics;

#[async_trait]
impl WriteOperation for Panics {
    type Output = ();

    async fn run(self, _session: &mut WriteSession) -> Result<(), Undone> {
        panic!("a mistake of ours");
    }
}

#[tokio::test]
async fn writer_goes_on_after_a_panic() {
    let file = File::new();
    let store = file.store().await;
    for _ in 0..2 {
        let error = store.records.write(Panics).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(error.may_have_happened());
    }
    let claim = store.claim(&request(1, 1)).await.unwrap();
    assert!(matches!(claim, Claim::Acquired { .. }), "{claim:?}");
}

#[test]
fn times_stay_within_what_a_column_holds() {
    let now = Time::now();
    assert_eq!(
        now.after(Duration::from_micros(5)).since(now),
        Duration::from_micros(5)
    );
    assert_eq!(now.since(now.after(Duration::from_secs(1))), Duration::ZERO);
    let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    assert!(now.after(Duration::MAX) == now.after(century));
    assert_eq!(Time(i64::MAX).after(century).0, i64::MAX);
}
