//! What the errors of tokio-postgres and of the pool mean.

use deadpool_postgres::PoolError;
use tokio_postgres::error::{DbError, Error, Severity, SqlState};

use crate::store::postgres::error::{
    NAME, is_code_of_connection, is_code_of_handler, is_code_without_savepoint, said,
};
use crate::store::postgres::transaction::NotBegun;
use crate::store::{StoreError, StoreErrorKind};

pub(super) fn store_error(error: Error) -> StoreError {
    match error.code().map(|code| code.code().to_owned()) {
        Some(code) => said(&code, !is_refusal(&error), error.into()),
        None => StoreError::new(NAME, StoreErrorKind::Unavailable).with_source(error),
    }
}

impl From<Error> for NotBegun {
    fn from(error: Error) -> Self {
        // What used the connection before has left it with another role.
        let is_of_role = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
        let is_of_session = is_of_connection(&error) || is_of_role;
        Self {
            error: store_error(error).not_executed(),
            is_of_session,
        }
    }
}

/// Why the pool has no connection. Nothing was sent.
pub(super) fn pool_error(error: PoolError) -> StoreError {
    let error = match error {
        PoolError::Backend(error) => store_error(error),
        PoolError::Timeout(_) => StoreError::new(NAME, StoreErrorKind::TimedOut).with_source(error),
        PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
            StoreError::new(NAME, StoreErrorKind::Unavailable).with_source(error)
        }
    };
    error.not_executed()
}

/// Whether the server has refused the statement, and goes on with the session.
pub(super) fn is_refusal(error: &Error) -> bool {
    let severity = error.as_db_error().and_then(DbError::parsed_severity);
    severity.is_some_and(|severity| !matches!(severity, Severity::Fatal | Severity::Panic))
}

/// As [`is_of_connection`](crate::store::postgres::error::is_of_connection).
pub(super) fn is_of_connection(error: &Error) -> bool {
    !is_refusal(error) || has_code(error, is_code_of_connection)
}

/// As [`is_code_of_handler`].
pub(super) fn is_of_handler(error: &Error) -> bool {
    has_code(error, is_code_of_handler)
}

/// Whether there is no such savepoint, or no transaction that could have one.
pub(super) fn is_without_savepoint(error: &Error) -> bool {
    has_code(error, is_code_without_savepoint)
}

/// Whether `record_or_fail` has written nothing, because another request's record is there.
pub(super) fn is_unwritten(error: &Error) -> bool {
    error.code().is_some_and(|code| {
        *code == SqlState::UNIQUE_VIOLATION || *code == SqlState::DIVISION_BY_ZERO
    })
}

/// Whether the transaction takes no more statements.
pub(super) fn is_in_failed_transaction(error: &Error) -> bool {
    error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION)
}

fn has_code(error: &Error, is_one: impl Fn(&str) -> bool) -> bool {
    error.code().is_some_and(|code| is_one(code.code()))
}
