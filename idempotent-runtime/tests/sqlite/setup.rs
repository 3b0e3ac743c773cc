//! Setting up: files, tables, URLs, memory.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use idempotent_runtime::store::sqlite::SqliteStore;
use idempotent_runtime::store::{self, Acquired, Claim, Store, StoreError, StoreErrorKind};
use idempotent_runtime::{Error, ErrorKind};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use tokio::sync::Barrier;

use crate::support::{Directory, begin, count, execute, request, unlock};

async fn assert_works(store: &SqliteStore) {
    let claim = store.claim(&request()).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: 1, .. })),
        "{claim:?}"
    );
}

fn store_error(error: &Error) -> &StoreError {
    assert_eq!(error.kind(), ErrorKind::Store, "{error:?}");
    error.source().unwrap().downcast_ref().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_that_start_at_once_on_a_new_file_all_migrate() {
    for _ in 0..5 {
        let directory = Directory::new();
        let start = Arc::new(Barrier::new(16));
        let tasks: Vec<_> = (0..16)
            .map(|_| (directory.url(), Arc::clone(&start)))
            .map(|(url, start)| {
                tokio::spawn(async move {
                    start.wait().await;
                    let store = SqliteStore::connect(&url).await.unwrap();
                    assert_works(&store).await;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let records = "SELECT count(*) FROM idempotency_records";
        assert_eq!(count(&mut directory.connection().await, records).await, 16);
    }
}

#[tokio::test]
async fn tables_of_other_names_are_other_stores() {
    let directory = Directory::new();
    let first = directory.store().await;
    let second = SqliteStore::new(directory.pool())
        .with_table("payment_keys")
        .unwrap();
    second.migrate().await.unwrap();
    let request = request();
    first.claim(&request).await.unwrap();
    assert!(second.get(&request.owner.key).await.unwrap().is_none());
    assert_works(&second).await;
    let records = "SELECT count(*) FROM payment_keys";
    assert_eq!(count(&mut directory.connection().await, records).await, 1);
}

#[tokio::test]
async fn missing_table_is_an_error_of_every_call_and_nothing_is_claimed() {
    let directory = Directory::new();
    let store = SqliteStore::new(directory.pool());
    let request = request();
    for _ in 0..2 {
        let claim = store.claim(&request).await.unwrap_err();
        let get = store.get(&request.owner.key).await.unwrap_err();
        for error in [claim, get] {
            assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
            assert!(error.source().is_some());
        }
    }
    store.migrate().await.unwrap();
    assert_works(&store).await;
}

#[tokio::test]
async fn table_of_somebody_else_is_found_out_by_the_migration() {
    let directory = Directory::new();
    drop(directory.store().await);
    let mut connection = directory.connection().await;
    execute(
        &mut connection,
        "CREATE TABLE users (expires_at INTEGER, name TEXT)",
    )
    .await;
    let store = SqliteStore::new(directory.pool())
        .with_table("users")
        .unwrap();
    let error = store.migrate().await.unwrap_err();
    assert_eq!(store_error(&error).kind(), StoreErrorKind::Refused);
    assert_eq!(
        format!("{error:?}"),
        "sqlite store could not set up its table `users`: sqlite store is refusing operations: \
         table `users` exists but was not created by idempotent-runtime: use another name"
    );
    let indexes = "SELECT count(*) FROM pragma_index_list('users')";
    assert_eq!(count(&mut connection, indexes).await, 0, "it is left alone");
}

/// By a tool for migrations, without the crate.
#[tokio::test]
async fn a_table_made_by_the_published_text_is_ours() {
    let directory = Directory::new();
    let pool = SqlitePool::connect_lazy(&format!("{}?mode=rwc", directory.url())).unwrap();
    let text = SqliteStore::new(pool.clone()).migrations();
    let mut connection = pool.acquire().await.unwrap();
    execute(&mut connection, text).await;
    assert_works(&SqliteStore::new(pool.clone())).await;
    assert_works(&SqliteStore::connect(&directory.url()).await.unwrap()).await;
    let indexes =
        "SELECT count(*) FROM pragma_index_list('idempotency_records') WHERE origin = 'c'";
    assert_eq!(count(&mut connection, indexes).await, 2);
}

#[tokio::test]
async fn what_cannot_be_opened_is_an_error_that_tells_no_path() {
    let directory = Directory::new();
    let missing = format!(
        "sqlite:{}/no-such-directory/a.db",
        directory.file().display()
    );
    let not_created = format!("{}?mode=rw", directory.url());
    for url in [missing, not_created] {
        let error = store::connect(&url).await.unwrap_err();
        let cause = store_error(&error);
        assert_eq!(cause.kind(), StoreErrorKind::Refused, "{url}: {cause:?}");
        assert!(!error.to_string().contains('/'), "{error}");
    }
    assert!(!directory.file().exists(), "`mode=rw` has created the file");
    for url in [
        "sqlite:a.db?mode=nonsense",
        "sqlite:a.db?colour=red",
        "postgres:a.db",
    ] {
        let error = SqliteStore::connect(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{url}: {error:?}");
    }
}

#[tokio::test]
async fn file_that_is_no_database_is_refused_and_no_items_fault() {
    let directory = Directory::new();
    std::fs::write(directory.file(), "Dear diary, ".repeat(1000)).unwrap();
    let error = SqliteStore::connect(&directory.url()).await.unwrap_err();
    let error = store_error(&error);
    assert_eq!(error.kind(), StoreErrorKind::Refused);
    assert!(!error.is_about_item() && !error.may_have_happened());
}

/// A store without a write-ahead log would promise more than it keeps.
#[tokio::test]
async fn file_that_cannot_have_a_write_ahead_log_is_refused() {
    let directory = Directory::new();
    // Without locks, as on some shares: no shared memory, so no write-ahead log.
    let url = format!("{}?mode=rwc&vfs=unix-none", directory.url());
    let error = SqliteStore::connect(&url).await.unwrap_err();
    assert_eq!(
        store_error(&error).kind(),
        StoreErrorKind::Refused,
        "{error:?}"
    );
}

#[tokio::test]
async fn database_of_an_application_is_put_into_wal_mode() {
    let directory = Directory::new();
    let options = SqliteConnectOptions::new()
        .filename(directory.file())
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Delete);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .unwrap();
    sqlx::raw_sql("CREATE TABLE users (name TEXT)")
        .execute(&pool)
        .await
        .unwrap();
    let store = SqliteStore::new(pool.clone());
    store.migrate().await.unwrap();
    assert_works(&store).await;
    // The application's own connection goes on, in the new mode.
    sqlx::raw_sql("INSERT INTO users VALUES ('Ada')")
        .execute(&pool)
        .await
        .unwrap();
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(mode, "wal");
}

/// Changing the mode does not wait for others by itself: SQLite refuses at once.
#[tokio::test]
async fn change_to_wal_mode_waits_for_those_who_write() {
    let directory = Directory::new();
    execute(
        &mut directory.new_connection().await,
        "CREATE TABLE users (name TEXT)",
    )
    .await;
    let lock = directory.lock().await;
    let store = SqliteStore::new(directory.pool());
    let mut migration = begin(store.migrate());
    // The longer this is, the surer it is that a store which gives up is found out.
    let answer = tokio::time::timeout(Duration::from_millis(200), &mut migration).await;
    assert!(answer.is_err(), "{answer:?}");
    unlock(lock).await;
    migration.await.unwrap();
    assert_works(&store).await;
}

#[tokio::test]
async fn database_in_memory_is_shared_with_its_pool_and_with_nobody_else() {
    let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
    let (store, same) = (
        SqliteStore::new(pool.clone()),
        SqliteStore::new(pool.clone()),
    );
    store.migrate().await.unwrap();
    let request = request();
    store.claim(&request).await.unwrap();
    assert!(same.get(&request.owner.key).await.unwrap().is_some());
    let mut connection = pool.acquire().await.unwrap();
    let records = "SELECT count(*) FROM idempotency_records";
    assert_eq!(count(&mut connection, records).await, 1);
    let other = SqliteStore::connect("sqlite::memory:").await.unwrap();
    assert!(other.get(&request.owner.key).await.unwrap().is_none());
}

/// Where each connection has a database of its own, the store has one connection.
#[tokio::test]
async fn private_database_in_memory_works() {
    let options = SqliteConnectOptions::new().filename(":memory:");
    let store = SqliteStore::new(SqlitePool::connect_lazy_with(options));
    store.migrate().await.unwrap();
    assert_works(&store).await;
    let request = request();
    store.claim(&request).await.unwrap();
    assert!(store.get(&request.owner.key).await.unwrap().is_some());
}

#[tokio::test]
async fn debug_shows_no_passphrase() {
    let options = SqliteConnectOptions::new().pragma("key", "'a passphrase'");
    let store = SqliteStore::new(SqlitePool::connect_lazy_with(options));
    assert_eq!(
        format!("{store:?}"),
        "SqliteStore { table: idempotency_records, .. }"
    );
}

/// A connection that is alone with a file can take it out of WAL mode, and no other can.
#[tokio::test]
async fn dropped_store_lets_go_of_the_file() {
    let directory = Directory::new();
    let store = directory.store().await;
    assert_works(&store).await;
    assert_works(&store).await;
    let mut connection = directory.connection().await;
    let alone = "PRAGMA journal_mode = DELETE";
    let refused = sqlx::raw_sql(alone).execute(&mut connection).await;
    assert!(refused.is_err(), "the store has no file open");
    drop(store);
    let dropped = Instant::now();
    while let Err(error) = sqlx::raw_sql(alone).execute(&mut connection).await {
        assert!(dropped.elapsed().as_secs() < 60, "{error:?}");
    }
}
