//! What is in the table: its version, its progress, and what the sweeper takes out.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use idempotent_runtime::store::sqlite::SqliteStore;
use idempotent_runtime::store::{
    Claim, ClaimRequest, Progress, PurgedClaim, Store, StoreError, StoreErrorKind,
};
use sqlx::Row as _;

use crate::support::{Directory, TTL, count, execute, request, response, rival};

const SCHEMA_1: &str = "CREATE TABLE idempotency_records ( -- idempotent-runtime schema 1
    record_key BLOB NOT NULL PRIMARY KEY, fingerprint BLOB NOT NULL, token BLOB NOT NULL, state TEXT NOT NULL,
    attempt INTEGER NOT NULL, status_code INTEGER, created_at INTEGER NOT NULL, lease_until INTEGER NOT NULL,
    expires_at INTEGER NOT NULL, response BLOB, progress BLOB
) STRICT";

#[tokio::test]
async fn table_of_an_older_release_is_refused_with_the_remedy() {
    let directory = Directory::new();
    execute(&mut directory.new_connection().await, SCHEMA_1).await;
    let error = SqliteStore::connect(&directory.url()).await.unwrap_err();
    let cause: &StoreError = error.source().unwrap().downcast_ref().unwrap();
    let store = SqliteStore::new(directory.pool());
    let claim = store.claim(&request()).await.unwrap_err();
    for error in [cause, &claim] {
        assert_eq!(error.kind(), StoreErrorKind::OtherRelease);
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains("has schema 1"), "{cause}");
        assert!(cause.contains("drop the table"), "{cause}");
    }
}

/// As after a dump by a tool that keeps no comments.
#[tokio::test]
async fn version_of_the_schema_survives_a_dump_without_comments() {
    let (directory, restored) = (Directory::new(), Directory::new());
    drop(directory.store().await);
    let row = sqlx::query("SELECT sql FROM sqlite_schema WHERE name = 'idempotency_records'")
        .fetch_one(&mut directory.connection().await)
        .await
        .unwrap();
    let made_with: String = row.get(0);
    let without_comments: Vec<_> = made_with
        .lines()
        .map(|line| line.split("--").next().unwrap())
        .collect();
    execute(
        &mut restored.new_connection().await,
        without_comments.join("\n"),
    )
    .await;
    let store = SqliteStore::new(restored.pool());
    let claim = store.claim(&request()).await.unwrap();
    assert!(matches!(claim, Claim::Acquired { .. }), "{claim:?}");
}

#[tokio::test]
async fn progress_is_appended_byte_for_byte_whatever_the_databases_encoding() {
    for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
        let directory = Directory::new();
        let set = format!("PRAGMA encoding = '{encoding}'; CREATE TABLE other (a)");
        execute(&mut directory.new_connection().await, set).await;
        let store = directory.store().await;
        let request = request();
        store.claim(&request).await.unwrap();
        let all: Vec<u8> = (0..=255).chain(0..=255).rev().collect();
        let mut saved = 0;
        // Of odd lengths, and each with the end of the one before it.
        for length in [1, 3, 64, 7, 0, 200, 85, 152] {
            let (from, to) = (saved / 2 * 2, saved + length);
            let bytes = Bytes::copy_from_slice(&all[from..to]);
            let result = store.save_progress(&request.owner, from, &bytes).await;
            assert_eq!(result.unwrap(), Progress::Saved, "{encoding}");
            saved = to;
        }
        let nothing = Bytes::new();
        let behind = store.save_progress(&request.owner, saved + 1, &nothing);
        let stored_bytes = saved;
        assert_eq!(behind.await.unwrap(), Progress::Behind { stored_bytes });
        let record = store.get(&request.owner.key).await.unwrap().unwrap();
        assert_eq!(record.progress, all[..saved], "{encoding}");
    }
}

#[tokio::test]
async fn purge_names_what_was_abandoned_and_looks_again_at_what_is_alive() {
    let directory = Directory::new();
    let store = directory.store().await;
    let brief = |retention| ClaimRequest {
        lease: Duration::ZERO,
        retention,
        ..request()
    };
    let (abandoned, alive) = (brief(Duration::ZERO), brief(TTL));
    let (completed, replayed) = (brief(TTL), brief(TTL));
    for request in [&abandoned, &alive, &completed, &replayed] {
        store.claim(request).await.unwrap();
    }
    let paid = response("paid");
    let no_time = store.complete(&completed.owner, &paid, Duration::ZERO);
    no_time.await.unwrap();
    store.complete(&replayed.owner, &paid, TTL).await.unwrap();
    let early = "UPDATE idempotency_records SET purge_at = 0";
    execute(&mut directory.connection().await, early).await;
    let purged = store.purge_expired(100).await.unwrap();
    assert_eq!(purged.records, 2);
    let claim = PurgedClaim {
        key: abandoned.owner.key,
        operation: "POST /payments".into(),
    };
    assert_eq!(purged.abandoned, [claim]);
    let due = "SELECT count(*) FROM idempotency_records WHERE purge_at < expires_at";
    assert_eq!(count(&mut directory.connection().await, due).await, 0);
    let claim = store.claim(&rival(&replayed)).await.unwrap();
    assert!(matches!(claim, Claim::Completed(_)), "{claim:?}");
    let claim = store.claim(&rival(&alive)).await.unwrap();
    assert!(matches!(claim, Claim::Abandoned { .. }), "{claim:?}");
}
