//! Looking at a database: it changes nothing, and waits for no writer.

use idempotent_runtime::store::{ListFilter, Store, Target};
use sqlx::SqliteConnection;

use crate::support::{Directory, execute, request, unlock};

async fn journal_mode(connection: &mut SqliteConnection) -> String {
    let mode = sqlx::query_scalar("PRAGMA journal_mode");
    mode.fetch_one(connection).await.unwrap()
}

/// As a tool looks: what there is, and one record.
async fn look(directory: &Directory) -> usize {
    let store = Target::new(directory.url()).open().await.unwrap();
    let listing = store.list(&ListFilter::new(), None, 10).await.unwrap();
    for record in &listing.records {
        assert!(store.get(&record.key).await.unwrap().is_some());
    }
    listing.records.len()
}

#[tokio::test]
async fn looking_leaves_the_journal_as_it_is_and_waits_for_no_writer() {
    let directory = Directory::new();
    let store = directory.store().await;
    store.claim(&request()).await.unwrap();
    drop(store);
    for mode in ["delete", "wal"] {
        // The store's own connections are closed in the background.
        let mut connection = directory.connection().await;
        for _ in 0..500 {
            let changed = sqlx::query_scalar(match mode {
                "delete" => "PRAGMA journal_mode = DELETE",
                _ => "PRAGMA journal_mode = WAL",
            });
            let changed: Result<String, _> = changed.fetch_one(&mut connection).await;
            if changed.is_ok_and(|changed| changed == mode) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(journal_mode(&mut connection).await, mode);
        execute(&mut connection, "BEGIN IMMEDIATE").await;
        assert_eq!(look(&directory).await, 1, "{mode}");
        unlock(connection).await;
        assert_eq!(journal_mode(&mut directory.connection().await).await, mode);
    }
}

#[tokio::test]
async fn a_service_lists_while_another_process_writes() {
    let directory = Directory::new();
    let store = directory.store().await;
    store.claim(&request()).await.unwrap();
    let lock = directory.lock().await;
    let listing = store.list(&ListFilter::new(), None, 10).await.unwrap();
    assert_eq!(listing.records.len(), 1);
    unlock(lock).await;
}
