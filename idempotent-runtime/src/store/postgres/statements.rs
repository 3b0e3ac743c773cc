//! The statements, with the table's name put in.

use std::sync::Arc;

use crate::store::sql::{TableName, uncommented};

/// One statement an operation.
pub(super) struct Statements {
    pub(super) claim: Arc<str>,
    pub(super) complete: Arc<str>,
    pub(super) group: Arc<str>,
    pub(super) save_progress: Arc<str>,
    pub(super) wait: Arc<str>,
    pub(super) renew: Arc<str>,
    pub(super) release: Arc<str>,
    pub(super) get: Arc<str>,
    pub(super) remove: Arc<str>,
    pub(super) purge: Arc<str>,
    /// With `{lock}` still to be put in.
    pub(super) begin: Arc<str>,
    pub(super) enter: Arc<str>,
    pub(super) record: Arc<str>,
    pub(super) record_again: Arc<str>,
}

impl Statements {
    pub(super) fn new(table: &TableName) -> Self {
        let statement = |template: &str| Arc::from(table.in_statement(&uncommented(template)));
        Self {
            claim: statement(include_str!("claim.sql")),
            complete: statement(include_str!("complete.sql")),
            group: statement(include_str!("group.sql")),
            save_progress: statement(include_str!("save_progress.sql")),
            wait: statement(include_str!("wait.sql")),
            renew: statement(include_str!("renew.sql")),
            release: statement(include_str!("release.sql")),
            get: statement(include_str!("get.sql")),
            remove: statement(include_str!("remove.sql")),
            purge: statement(include_str!("purge.sql")),
            begin: Arc::from(uncommented(include_str!("begin.sql"))),
            enter: statement(include_str!("enter.sql")),
            record: statement(include_str!("record.sql")),
            record_again: statement(include_str!("record_again.sql")),
        }
    }
}
