//! What SQLite's result codes mean here.

use std::error::Error;
use std::sync::Arc;

use super::NAME;
use crate::store::{StoreError, StoreErrorKind, sql};

/// Primary result codes: the low byte of what SQLite reports. <https://www.sqlite.org/rescode.html>
mod code {
    pub(super) const ERROR: i32 = 1;
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const NOMEM: i32 = 7;
    pub(super) const INTERRUPT: i32 = 9;
    pub(super) const IOERR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const PROTOCOL: i32 = 15;
    pub(super) const SCHEMA: i32 = 17;
    pub(super) const TOOBIG: i32 = 18;
    pub(super) const CONSTRAINT: i32 = 19;
    pub(super) const MISMATCH: i32 = 20;
    pub(super) const NOTADB: i32 = 26;
}

fn code_of(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?.parse::<i32>().ok()?;
    Some(code & 0xff)
}

pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(code_of(error), Some(code::BUSY | code::LOCKED))
}

/// Whether the failure undid one statement and left the transaction as it was. Everything else
/// (a full disk, a failed read, no memory) may have rolled it back, and takes it along.
pub(super) fn is_of_one_statement(error: &sqlx::Error) -> bool {
    match code_of(error) {
        Some(code) => matches!(
            code,
            code::ERROR | code::SCHEMA | code::TOOBIG | code::CONSTRAINT | code::MISMATCH
        ),
        None => kind_of(error) == StoreErrorKind::Corrupt,
    }
}

fn kind_of(error: &sqlx::Error) -> StoreErrorKind {
    match (code_of(error), error) {
        (Some(code), _) => kind_of_code(code),
        // The file is not one that this store can use.
        (None, sqlx::Error::Configuration(_)) => StoreErrorKind::Rejected,
        (None, error) => sql::kind(error),
    }
}

fn kind_of_code(code: i32) -> StoreErrorKind {
    match code {
        code::BUSY
        | code::LOCKED
        | code::NOMEM
        | code::INTERRUPT
        | code::IOERR
        | code::CANTOPEN
        | code::PROTOCOL => StoreErrorKind::Unavailable,
        code::FULL => StoreErrorKind::Full,
        code::CORRUPT | code::NOTADB => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Rejected,
    }
}

pub(super) fn store_error(error: sqlx::Error) -> StoreError {
    match code_of(&error) {
        Some(code) => StoreError::new(NAME, kind_of_code(code)).with_source(error),
        None => sql::store_error(NAME, error),
    }
}

/// The writer has ended. It does so when the store is dropped, and nobody asks it then.
pub(super) fn writer_has_ended() -> StoreError {
    StoreError::new(NAME, StoreErrorKind::Unavailable).with_source("its writer thread has ended")
}

/// Why a whole transaction came to nothing, for each of its operations.
pub(super) struct Undone {
    kind: StoreErrorKind,
    cause: Arc<dyn Error + Send + Sync>,
}

impl Undone {
    /// It was not committed, that is certain.
    pub(super) fn before_commit(error: sqlx::Error) -> Self {
        Self {
            kind: kind_of(&error),
            cause: Arc::new(error),
        }
    }

    /// Nobody knows whether it was committed.
    pub(super) fn at_commit(error: sqlx::Error) -> Self {
        Self {
            kind: StoreErrorKind::Unavailable,
            cause: Arc::new(error),
        }
    }

    pub(super) fn to_store_error(&self) -> StoreError {
        StoreError::new(NAME, self.kind).with_source(Arc::clone(&self.cause))
    }
}
