//! The statements on the application's connections that are sent as text, several in one message.

use std::time::Duration;

use sqlx::SqlStr;

use super::many::literal;
use super::statements::{session_limit, text};
use super::table::QualifiedTable;
use crate::key::RecordKey;
use crate::store::ClaimRequest;
use crate::store::sql::{micros, prepared, uncommented};

pub(super) const UNLOCK: &str = include_str!("sql/unlock.sql");

/// One for each step of a transaction.
pub(super) struct PooledStatements {
    enter_first: String,
    enter: String,
    begin: String,
    begin_unprotected: String,
    before: SqlStr,
    insert: String,
    prepare: String,
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
        let before = uncommented(include_str!("sql/before.sql"));
        let enter = uncommented(include_str!("sql/enter.sql"))
            .replace("{before}", &before)
            .replace("{read}", &read);
        let enter_first = uncommented(include_str!("sql/enter_first.sql"));
        let begin = uncommented(include_str!("sql/begin.sql"));
        let begin_unprotected = uncommented(include_str!("sql/begin_unprotected.sql"));
        Self {
            enter_first: of(&enter_first.replace("{enter}", &enter)),
            enter: of(&enter),
            begin_unprotected: of(
                &begin_unprotected.replace("{begin}", &begin.replace("{mode}", ""))
            ),
            begin: of(&begin.replace("{mode}", " READ WRITE")),
            before: prepared(of(&format!("SELECT {before}"))),
            insert: of(include_str!("sql/insert.sql")),
            prepare: of(include_str!("sql/prepare.sql")),
            leave: prepared(of(include_str!("sql/leave.sql"))),
        }
    }

    /// Locks one of a request's records, unless it is there, and reads it; the first with the limit of the session.
    pub(super) fn enter(&self, lock: &str, limit: Option<Duration>, key: &RecordKey) -> SqlStr {
        let enter = match limit {
            Some(limit) => self
                .enter_first
                .replace("{limit}", session_limit(limit).trim_end()),
            None => self.enter.clone(),
        };
        // A lock's name is digits and letters.
        let enter = enter.replace("{lock}", lock);
        text(enter.replace("{key}", &literal(key.as_bytes())))
    }

    /// Begins, and takes the keys of records that are not there.
    pub(super) fn begin<'a>(&self, claims: impl Iterator<Item = &'a ClaimRequest<'a>>) -> SqlStr {
        let mut begin = self.begin.clone();
        for claim in claims {
            begin.push_str("; ");
            begin.push_str(&self.insert(claim));
        }
        text(begin)
    }

    /// The same, and nothing is to be written behind it before the handler's own.
    pub(super) fn begin_and_prepare<'a>(
        &self,
        claims: impl Iterator<Item = &'a ClaimRequest<'a>>,
    ) -> SqlStr {
        text(format!("{}; {}", self.begin(claims).as_str(), self.prepare))
    }

    /// Without a record nothing needs to be written, so a handler that only reads may do so on a read-only
    /// server. There is no lock before it, so that the limit of the session is set here.
    pub(super) fn begin_unprotected(&self, idle_limit: Duration) -> SqlStr {
        let limit = session_limit(idle_limit);
        let begin = self.begin_unprotected.replace("{limit}", limit.trim_end());
        text(format!("{begin}; {}", self.prepare))
    }

    /// What the session is like.
    pub(super) fn before(&self) -> SqlStr {
        self.before.clone()
    }

    pub(super) fn prepare(&self) -> SqlStr {
        text(self.prepare.clone())
    }

    pub(super) fn leave(&self) -> SqlStr {
        self.leave.clone()
    }

    /// `insert.sql` with its parameters in it, which are digits.
    fn insert(&self, claim: &ClaimRequest<'_>) -> String {
        let string = |text: &str| format!("_utf8mb4 {}", literal(text.as_bytes()));
        let life = claim.lease.saturating_add(claim.retention);
        let mut parameters = [
            literal(claim.owner.key.as_bytes()),
            literal(claim.fingerprint.as_bytes()),
            literal(claim.owner.token.as_bytes()),
            string(claim.operation),
            claim.label.map_or_else(|| "NULL".to_owned(), string),
            claim
                .first_progress()
                .map_or_else(|| "NULL".to_owned(), literal),
            micros(claim.lease).to_string(),
            micros(life).to_string(),
        ]
        .into_iter();
        let mut insert = String::with_capacity(self.insert.len() + 512);
        for part in self.insert.split_inclusive('?') {
            let before = part.strip_suffix('?');
            insert.push_str(before.unwrap_or(part));
            if before.is_some() {
                insert.extend(parameters.next());
            }
        }
        insert
    }
}
