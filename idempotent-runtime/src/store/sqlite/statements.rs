//! The statements, for one table.

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{SqlStr, Sqlite};

use super::batches::Batches;
use super::time::Time;
use crate::record::Owner;
use crate::store::sql::{TableName, prepared};

pub(super) type Statement = Query<'static, Sqlite, SqliteArguments>;

/// Each is in a file of its own, with its parameters explained.
#[derive(Clone)]
pub(super) struct Statements {
    pub(super) table: TableName,
    pub(super) create_table: SqlStr,
    pub(super) create_index: SqlStr,
    pub(super) create_listing_index: SqlStr,
    pub(super) claim: SqlStr,
    pub(super) claim_all: Batches,
    pub(super) read: SqlStr,
    pub(super) read_all: Batches,
    /// As `read`, with the operation, the progress and the label.
    pub(super) get: SqlStr,
    pub(super) renew: SqlStr,
    pub(super) renew_all: Batches,
    pub(super) save_progress: SqlStr,
    pub(super) progress_of: SqlStr,
    pub(super) complete: SqlStr,
    pub(super) complete_all: Batches,
    pub(super) complete_and_reschedule: SqlStr,
    pub(super) record: SqlStr,
    pub(super) release: SqlStr,
    pub(super) release_all: Batches,
    pub(super) abandon: SqlStr,
    pub(super) abandon_all: Batches,
    pub(super) give_grace: SqlStr,
    pub(super) list: SqlStr,
    pub(super) list_uncompleted: SqlStr,
    pub(super) remove: SqlStr,
    pub(super) postpone: SqlStr,
    pub(super) purge: SqlStr,
}

impl Statements {
    pub(super) fn new(table: &TableName) -> Self {
        // Shared, because every call clones one.
        let shared = |template: &str| prepared(table.in_statement(template));
        let read = include_str!("sql/read.sql");
        let list = include_str!("sql/list.sql");
        let many = |template, columns| Batches::new(table, template, columns);
        Self {
            table: table.clone(),
            create_table: shared(include_str!("sql/create_table.sql")),
            create_index: shared(include_str!("sql/create_index.sql")),
            create_listing_index: shared(include_str!("sql/create_listing_index.sql")),
            claim: shared(include_str!("sql/claim.sql")),
            claim_all: many(include_str!("sql/claim_all.sql"), 10),
            read: shared(&read.replace("{details}", "NULL, NULL, NULL")),
            read_all: many(include_str!("sql/read_all.sql"), 1),
            get: shared(&read.replace("{details}", "operation, progress, label")),
            renew: shared(include_str!("sql/renew.sql")),
            renew_all: many(include_str!("sql/renew_all.sql"), 5),
            save_progress: shared(include_str!("sql/save_progress.sql")),
            progress_of: shared(include_str!("sql/progress_of.sql")),
            complete: shared(include_str!("sql/complete.sql")),
            complete_all: many(include_str!("sql/complete_all.sql"), 7),
            complete_and_reschedule: shared(include_str!("sql/complete_and_reschedule.sql")),
            record: shared(include_str!("sql/record.sql")),
            release: shared(include_str!("sql/release.sql")),
            release_all: many(include_str!("sql/release_all.sql"), 3),
            abandon: shared(include_str!("sql/abandon.sql")),
            abandon_all: many(include_str!("sql/abandon_all.sql"), 3),
            give_grace: shared(include_str!("sql/give_grace.sql")),
            list: shared(&list.replace("{which}", "")),
            list_uncompleted: shared(&list.replace("{which}", "state = 'running' AND")),
            remove: shared(include_str!("sql/remove.sql")),
            postpone: shared(include_str!("sql/postpone.sql")),
            purge: shared(include_str!("sql/purge.sql")),
        }
    }
}

/// The statement with its first three parameters: key, token, now.
pub(super) fn of_owner(statement: SqlStr, owner: &Owner, now: Time) -> Statement {
    sqlx::query(statement)
        .bind(owner.key.as_bytes().to_vec())
        .bind(owner.token.as_bytes().to_vec())
        .bind(now.0)
}
