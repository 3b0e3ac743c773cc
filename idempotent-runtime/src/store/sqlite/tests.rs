use std::path::PathBuf;
use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::row::Time;
use super::session::{Place, Session};
use super::*;
use crate::record::Token;

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

async fn session(store: &SqliteStore) -> Session {
    let session = Session::open(&store.options, &store.statements).await;
    session.unwrap()
}

#[tokio::test]
async fn the_writer_waits_for_the_disk() {
    let file = File::new();
    let store = file.store().await;
    let mut session = session(&store).await;
    assert!(session.place == Place::File);
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
        .synchronous(SqliteSynchronous::Off);
    let store = SqliteStore::new(SqlitePool::connect_lazy_with(options));
    let mut session = session(&store).await;
    assert!(session.place == Place::File, "not in WAL mode");
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(&mut session.connection)
        .await
        .unwrap();
    assert_eq!(synchronous, 2);
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
        complete_all,
        release,
        remove,
        purge,
        ..
    } = store.statements.clone();
    let complete_all = complete_all.of(64).unwrap();
    for statement in [read, renew, complete, complete_all, release, remove, purge] {
        let query = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", statement.as_str()));
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(query)
            .fetch_all(&mut session.connection)
            .await
            .unwrap();
        let is_search = |step: &(i64, i64, i64, String)| {
            ["SCAN done", "SCAN 64-ROW VALUES CLAUSE"].contains(&&*step.3) || !step.3.contains("SCAN")
        };
        assert!(
            plan.iter().all(is_search),
            "{}: {plan:?}",
            statement.as_str()
        );
    }
}

#[tokio::test]
async fn readers_cannot_write() {
    let file = File::new();
    let store = file.store().await;
    let key = RecordKey::from_bytes([1; 32]);
    let remove = store.statements.remove.clone();
    let error = store.readers.fetch(remove, &key).await.unwrap_err();
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    assert_eq!(code.as_deref(), Some("8"), "not read-only: {error:?}");
}

#[test]
fn times_stay_within_what_a_column_holds() {
    let now = Time::now();
    assert_eq!(
        now.after(Duration::from_micros(5)).since(now),
        Duration::from_micros(5)
    );
    assert_eq!(now.since(now.after(Duration::from_secs(1))), Duration::ZERO);
    assert_eq!(now.after(Duration::MAX).0, i64::MAX);
}
