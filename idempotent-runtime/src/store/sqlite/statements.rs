//! The statements, for one table.

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::batch::Batches;
use crate::store::sql::TableName;

/// Each is in a file of its own, with its parameters explained.
#[derive(Clone)]
pub(super) struct Statements {
    pub(super) table: TableName,
    pub(super) create_table: SqlStr,
    pub(super) create_index: SqlStr,
    pub(super) claim: SqlStr,
    pub(super) claim_all: Batches,
    pub(super) read: SqlStr,
    pub(super) read_all: Batches,
    /// As `read`, with the progress.
    pub(super) get: SqlStr,
    pub(super) renew: SqlStr,
    pub(super) save_progress: SqlStr,
    pub(super) complete: SqlStr,
    pub(super) complete_all: Batches,
    pub(super) record: SqlStr,
    pub(super) release: SqlStr,
    pub(super) remove: SqlStr,
    pub(super) purge: SqlStr,
}

impl Statements {
    pub(super) fn new(table: &TableName) -> Self {
        // Nothing but a checked identifier is put in. Shared, because every call clones one.
        let shared = |template: &str| {
            let statement = table.in_statement(template);
            AssertSqlSafe(std::sync::Arc::<str>::from(statement)).into_sql_str()
        };
        let read = include_str!("sql/read.sql");
        Self {
            table: table.clone(),
            create_table: shared(include_str!("sql/create_table.sql")),
            create_index: shared(include_str!("sql/create_index.sql")),
            claim: shared(include_str!("sql/claim.sql")),
            claim_all: Batches::new(table, include_str!("sql/claim_all.sql"), 6),
            read: shared(&read.replace("{progress}", "NULL")),
            read_all: Batches::new(table, include_str!("sql/read_all.sql"), 1),
            get: shared(&read.replace("{progress}", "progress")),
            renew: shared(include_str!("sql/renew.sql")),
            save_progress: shared(include_str!("sql/save_progress.sql")),
            complete: shared(include_str!("sql/complete.sql")),
            complete_all: Batches::new(table, include_str!("sql/complete_all.sql"), 5),
            record: shared(include_str!("sql/record.sql")),
            release: shared(include_str!("sql/release.sql")),
            remove: shared(include_str!("sql/remove.sql")),
            purge: shared(include_str!("sql/purge.sql")),
        }
    }
}
