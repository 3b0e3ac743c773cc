//! The statements on the application's connections that are sent as text, several in one message.

use std::time::Duration;

use sqlx::SqlStr;

use super::many::literal;
use super::statements::{session_limit, text};
use super::table::QualifiedTable;
use crate::key::RecordKey;
use crate::store::sql::{prepared, uncommented};

pub(super) const UNLOCK: &str = include_str!("sql/unlock.sql");

/// For leave.sql and unlock.sql, which put it back.
const KEEP_AUTOCOMMIT: &str = "@idempotent_autocommit = @@autocommit";

/// One for each step of a transaction.
pub(super) struct PooledStatements {
    read: String,
    enter: String,
    begin: SqlStr,
    begin_unprotected: String,
    prepare: SqlStr,
    leave: SqlStr,
}

impl PooledStatements {
    pub(super) fn new(table: &QualifiedTable) -> Self {
        let clock = uncommented(include_str!("sql/clock.sql"));
        let state = uncommented(include_str!("sql/session_state.sql"));
        let of = |template: &str| {
            let template = uncommented(template).replace("{clock}", &clock);
            table.in_statement(&template.replace("{session}", &state))
        };
        let read = uncommented(include_str!("sql/read.sql"))
            .replace("{details}", "NULL, NULL, NULL")
            .replace('?', "{key}");
        let pooled_read = uncommented(include_str!("sql/pooled_read.sql"));
        let begin = include_str!("sql/begin.sql");
        Self {
            enter: format!("{}; {}", of(include_str!("sql/enter.sql")), of(&read)),
            read: of(&pooled_read.replace("{read}", &read)),
            begin: prepared(of(&begin
                .replace("{autocommit}", "")
                .replace("{mode}", " READ WRITE"))),
            begin_unprotected: of(&begin
                .replace("{autocommit}", &format!("{KEEP_AUTOCOMMIT}, "))
                .replace("{mode}", "")),
            prepare: prepared(of(include_str!("sql/prepare.sql"))),
            leave: prepared(of(include_str!("sql/leave.sql"))),
        }
    }

    /// Reads a record, whatever the connection was left in.
    pub(super) fn read(&self, key: &RecordKey) -> SqlStr {
        text(self.read.replace("{key}", &literal(key)))
    }

    /// Locks one of a request's records and reads it, with the limit of the session before the first.
    pub(super) fn enter(&self, lock: &str, limit: Option<Duration>, key: &RecordKey) -> SqlStr {
        // A lock's name is digits and letters.
        let enter = self.enter.replace("{lock}", lock);
        let enter = enter.replace("{key}", &literal(key));
        match limit {
            Some(limit) => text(format!(
                "{}, {KEEP_AUTOCOMMIT}, autocommit = 1; {enter}",
                session_limit(limit).trim_end()
            )),
            None => text(enter),
        }
    }

    pub(super) fn begin(&self) -> SqlStr {
        self.begin.clone()
    }

    /// Without a record nothing needs to be written, so a handler that only reads may do so on a read-only
    /// server. There is no lock before it, so that the limit of the session is set here.
    pub(super) fn begin_unprotected(&self, idle_limit: Duration) -> SqlStr {
        let limit = session_limit(idle_limit);
        text(format!("{limit}; {}", self.begin_unprotected))
    }

    pub(super) fn prepare(&self) -> SqlStr {
        self.prepare.clone()
    }

    pub(super) fn leave(&self) -> SqlStr {
        self.leave.clone()
    }
}
