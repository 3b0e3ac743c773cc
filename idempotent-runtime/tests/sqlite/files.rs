//! Database files that have no name, are deleted, or are replaced.

use std::error::Error as _;
use std::fs;
use std::path::{Path, PathBuf};

use idempotent_runtime::ErrorKind;
use idempotent_runtime::store::sqlite::SqliteStore;
use idempotent_runtime::store::{Claim, Completion, Store, StoreError, StoreErrorKind};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::support::{Directory, TTL, begin, execute, renewal, request, response, rival};

#[tokio::test]
async fn url_without_a_path_is_refused() {
    for url in ["sqlite:", "sqlite://", "sqlite:?mode=rwc", "sqlite: "] {
        let error = SqliteStore::connect(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{url}");
    }
}

/// SQLite takes it for a private temporary database.
#[tokio::test]
async fn pool_without_a_path_is_refused() {
    let options = SqliteConnectOptions::new().filename("");
    let store = SqliteStore::new(SqlitePool::connect_lazy_with(options));
    let error = store.migrate().await.unwrap_err();
    let cause: &StoreError = error.source().unwrap().downcast_ref().unwrap();
    assert_eq!(cause.kind(), StoreErrorKind::Refused);
    assert!(format!("{error:?}").contains("no path"), "{error:?}");
}

async fn backup_of(directory: &Directory) -> PathBuf {
    let backup = directory.file().with_extension("backup");
    let vacuum = format!("VACUUM INTO '{}'", backup.display());
    execute(&mut directory.connection().await, vacuum).await;
    backup
}

fn remove(file: &Path) {
    for extension in ["db", "db-wal", "db-shm"] {
        fs::remove_file(file.with_extension(extension)).ok();
    }
}

fn assert_lost<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Refused, "{error:?}");
    assert!(!error.may_have_happened(), "{error:?}");
    let cause = error.source().unwrap().to_string();
    assert!(cause.contains("deleted or moved"), "{cause}");
}

#[tokio::test]
async fn deleted_file_goes_by_no_operation_unnoticed_and_is_used_again_once_it_is_back() {
    let directory = Directory::new();
    let store = directory.store().await;
    let (running, completed) = (request(), request());
    store.claim(&running).await.unwrap();
    store.claim(&completed).await.unwrap();
    let paid = response("paid");
    store.complete(&completed.owner, &paid, TTL).await.unwrap();
    let backup = backup_of(&directory).await;

    remove(&directory.file());
    for _ in 0..2 {
        assert_lost(store.claim(&request()).await);
        assert_lost(store.claim(&rival(&completed)).await);
        assert_lost(store.get(&completed.owner.key).await);
        assert_lost(store.complete(&running.owner, &paid, TTL).await);
        let renewed = store.renew(&[renewal(&running.owner)]).await;
        renewed.into_iter().for_each(assert_lost);
        assert_lost(store.remove(&completed.owner.key).await);
        assert_lost(store.purge_expired(10).await);
    }
    assert!(!directory.file().exists(), "it has come back empty");

    fs::rename(backup, directory.file()).unwrap();
    let claim = store.claim(&rival(&completed)).await.unwrap();
    assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
    let completion = store.complete(&running.owner, &paid, TTL).await.unwrap();
    assert_eq!(completion, Completion::Stored);
}

#[tokio::test]
async fn file_that_is_replaced_is_the_one_that_is_written_to() {
    let directory = Directory::new();
    let store = directory.store().await;
    let old = request();
    store.claim(&old).await.unwrap();
    store.get(&old.owner.key).await.unwrap().unwrap();

    let other = Directory::new();
    let _other = other.store().await;
    let replacement = backup_of(&other).await;
    remove(&directory.file());
    fs::rename(replacement, directory.file()).unwrap();

    assert!(store.get(&old.owner.key).await.unwrap().is_none());
    let new = request();
    store.claim(&new).await.unwrap();
    let another = directory.store().await;
    assert!(another.get(&new.owner.key).await.unwrap().is_some());
}

/// The lock that it gets is on a file that no process finds any more.
#[tokio::test]
async fn call_that_waits_for_a_lock_finds_the_file_gone() {
    let directory = Directory::new();
    let store = directory.store().await;
    let lock = directory.lock().await;
    let request = request();
    let claim = begin(store.claim(&request));
    remove(&directory.file());
    drop(lock);
    assert_lost(claim.await);
}
