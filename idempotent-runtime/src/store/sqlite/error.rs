//! What SQLite's result codes mean here.

use crate::store::{StoreError, StoreErrorKind, sql};

/// What the store is called in its errors.
pub(super) const NAME: &str = "sqlite";

/// Primary result codes: the low byte of what SQLite reports. <https://www.sqlite.org/rescode.html>
mod code {
    pub(super) const ERROR: i32 = 1;
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const NOMEM: i32 = 7;
    pub(super) const INTERRUPT: i32 = 9;
    pub(super) const IOERR: i32 = 10;
    pub(super) const FULL: i32 = 13;
    pub(super) const PROTOCOL: i32 = 15;
    pub(super) const SCHEMA: i32 = 17;
    pub(super) const TOOBIG: i32 = 18;
    pub(super) const CONSTRAINT: i32 = 19;
    pub(super) const MISMATCH: i32 = 20;

    /// An extended one: the memory that processes share is a file too, and had no room to grow.
    pub(super) const IOERR_SHMSIZE: i32 = 4874;
}

fn extended_code_of(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

fn code_of(error: &sqlx::Error) -> Option<i32> {
    extended_code_of(error).map(|code| code & 0xff)
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
        None => matches!(
            sql::kind(error),
            StoreErrorKind::Corrupt | StoreErrorKind::TooLarge
        ),
    }
}

/// Of what is not a code's, `None`.
fn kind_of(error: &sqlx::Error) -> Option<StoreErrorKind> {
    let kind = match (extended_code_of(error)?, code_of(error)?) {
        (code::IOERR_SHMSIZE, _) | (_, code::FULL) => StoreErrorKind::Full,
        (_, code::BUSY | code::LOCKED | code::PROTOCOL) => StoreErrorKind::Busy,
        (_, code::TOOBIG) => StoreErrorKind::TooLarge,
        (_, code::NOMEM | code::INTERRUPT | code::IOERR) => StoreErrorKind::Unavailable,
        // Read-only, no permission, no such path, no table. A damaged file too: that is about all of it and not about
        // one record, and it can be replaced by a good one.
        _ => StoreErrorKind::Refused,
    };
    Some(kind)
}

/// Of an operation that is not committed, whatever has become of it: nothing was written.
pub(super) fn store_error(error: sqlx::Error) -> StoreError {
    match kind_of(&error) {
        Some(kind) => StoreError::new(NAME, kind).with_source(error),
        None => sql::store_error(NAME, error),
    }
    .not_executed()
}

/// Of a commit. It may have happened unless the code says that the log has no end of it: then it had no room
/// for that, or it was not to be written.
pub(super) fn commit_error(error: sqlx::Error) -> StoreError {
    let is_certain = match code_of(&error) {
        Some(code) => matches!(
            code,
            code::FULL | code::BUSY | code::LOCKED | code::CONSTRAINT
        ),
        // It was refused before it was tried.
        None => matches!(error, sqlx::Error::Configuration(_)),
    };
    if is_certain {
        return store_error(error);
    }
    StoreError::new(NAME, StoreErrorKind::Unavailable).with_source(error)
}

/// Why an operation came to nothing.
pub(super) enum Undone {
    /// The others in its group do not notice.
    Alone(StoreError),
    /// The group fails with it.
    WithItsGroup(sqlx::Error),
}

impl From<sqlx::Error> for Undone {
    fn from(error: sqlx::Error) -> Self {
        if is_of_one_statement(&error) {
            Self::Alone(store_error(error))
        } else {
            Self::WithItsGroup(error)
        }
    }
}

impl From<StoreError> for Undone {
    fn from(error: StoreError) -> Self {
        Self::Alone(error)
    }
}

/// The writer has ended, by a panic or with the store.
pub(super) fn writer_has_ended() -> StoreError {
    StoreError::new(NAME, StoreErrorKind::Unavailable).with_source("its writer thread has ended")
}
