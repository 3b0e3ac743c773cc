//! The SQLite store: the conformance kit, and what is SQLite's own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in the helpers too, which clippy does not take for tests"
)]

use std::sync::Arc;
use std::time::Duration;

use idempotent_runtime::store::conformance;
use idempotent_runtime::store::sqlite::SqliteStore;
use idempotent_runtime::store::{self, Store};

use sql::{Bed, sql_store_tests};
use support::Directory;

#[path = "sqlite/batches.rs"]
mod batches;
#[path = "sqlite/checks.rs"]
mod checks;
#[path = "support/claims.rs"]
mod claims;
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
#[path = "sqlite/looking.rs"]
mod looking;
#[path = "sqlite/records.rs"]
mod records;
#[path = "sqlite/setup.rs"]
mod setup;
#[path = "sqlite/sharing.rs"]
mod sharing;
#[path = "support/sql.rs"]
mod sql;
#[path = "support/sqlite.rs"]
mod support;
#[path = "sqlite/turns.rs"]
mod turns;

sql_store_tests!(
    Directory: one_of_sixteen_processes_acquires,
    missing_table_is_refused_and_the_cause_names_migrate,
    migrating_again_keeps_the_records,
    table_made_by_the_published_text_is_ours,
    table_of_a_newer_release_is_refused,
    table_of_somebody_else_is_left_alone,
    name_that_is_no_identifier_is_refused,
    record_that_cannot_be_read_is_corrupt_and_never_absent,
    completing_a_record_of_an_unknown_state_is_corrupt,
);

async fn assert_conformant(store: impl Store) {
    let bed = Bed {
        store: Arc::new(store),
        locker: None,
        lease: Duration::from_millis(300),
    };
    let report = conformance::run(&bed).await;
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
