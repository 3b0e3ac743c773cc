//! The SQLite store: the conformance kit, and what is SQLite's own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in the helpers too, which clippy does not take for tests"
)]

use std::sync::Arc;

use idempotent_runtime::store::conformance;
use idempotent_runtime::store::sqlite::SqliteStore;
use idempotent_runtime::store::{self, Store};

use support::{Bed, Directory};

#[path = "sqlite/batches.rs"]
mod batches;
#[path = "sqlite/corruption.rs"]
mod corruption;
#[path = "sqlite/disk.rs"]
mod disk;
#[path = "sqlite/durability.rs"]
mod durability;
#[path = "sqlite/files.rs"]
mod files;
#[path = "sqlite/groups.rs"]
mod groups;
#[path = "sqlite/records.rs"]
mod records;
#[path = "sqlite/setup.rs"]
mod setup;
#[path = "sqlite/sharing.rs"]
mod sharing;
#[path = "support/sqlite.rs"]
mod support;
#[path = "sqlite/turns.rs"]
mod turns;

async fn assert_conformant(store: impl Store) {
    let report = conformance::run(&Bed(Arc::new(store))).await;
    assert!(
        report.cases().len() > 40,
        "only {} cases were run",
        report.cases().len()
    );
    report.assert_conformant();
    assert!(report.inconclusive().is_empty(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_store_in_a_file_is_conformant() {
    let directory = Directory::new();
    assert_conformant(directory.store().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn store_that_a_url_names_is_conformant() {
    let directory = Directory::new();
    assert_conformant(store::connect(&directory.url()).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_store_in_memory_is_conformant() {
    assert_conformant(SqliteStore::connect("sqlite::memory:").await.unwrap()).await;
}
