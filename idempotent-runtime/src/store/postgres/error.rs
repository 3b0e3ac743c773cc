//! Errors by SQLSTATE, never by text.

use std::sync::Arc;

use sqlx::error::DatabaseError;

use super::NAME;
use crate::store::{StoreError, StoreErrorKind, sql};

/// The cause of an error that [`migrate`](super::PostgresStore::migrate) would have prevented.
#[derive(Debug, thiserror::Error)]
#[error(
    "the table or its functions are missing: call `PostgresStore::migrate` before the first use"
)]
struct NotMigrated(#[source] sqlx::Error);

pub(super) fn store_error(error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(DatabaseError::code);
    let Some(code) = code.as_deref() else {
        return sql::store_error(NAME, error);
    };
    let kind = kind_of(code);
    match code {
        // undefined_table, undefined_function
        "42P01" | "42883" => StoreError::new(NAME, kind).with_source(NotMigrated(error)),
        _ => StoreError::new(NAME, kind).with_source(error),
    }
}

/// One error of several operations.
pub(super) fn shared_error(error: &Arc<sqlx::Error>) -> StoreError {
    let code = error.as_database_error().and_then(DatabaseError::code);
    let kind = code.map_or_else(|| sql::kind(error), |code| kind_of(&code));
    StoreError::new(NAME, kind).with_source(Arc::clone(error))
}

/// Whether there is no such savepoint, or no transaction that could have one.
pub(super) fn is_without_savepoint(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    // invalid_savepoint_specification, no_active_sql_transaction
    matches!(code.as_deref(), Some("3B001" | "25P01"))
}

/// Whether the row is there already.
pub(super) fn is_unique_violation(error: &sqlx::Error) -> bool {
    let error = error.as_database_error();
    error.is_some_and(DatabaseError::is_unique_violation)
}

/// What a [SQLSTATE](https://www.postgresql.org/docs/current/errcodes-appendix.html) says about the
/// operation.
fn kind_of(code: &str) -> StoreErrorKind {
    match code {
        // query_canceled (`statement_timeout`), lock_not_available (`lock_timeout`),
        // idle_session_timeout
        "57014" | "55P03" | "57P05" => StoreErrorKind::TimedOut,
        // data_corrupted, index_corrupted
        "XX001" | "XX002" => StoreErrorKind::Corrupt,
        // read_only_sql_transaction: the primary has become a replica, and another one is primary
        "25006" => StoreErrorKind::Unavailable,
        _ => kind_of_class(code.get(..2).unwrap_or_default()),
    }
}

fn kind_of_class(class: &str) -> StoreErrorKind {
    match class {
        // Connection exception; transaction rollback (serialization, deadlock, completion unknown);
        // insufficient resources; operator intervention; system error.
        "08" | "40" | "53" | "57" | "58" => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Rejected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstate_decides_the_kind() {
        for (code, kind) in [
            ("08006", StoreErrorKind::Unavailable),
            ("40001", StoreErrorKind::Unavailable),
            ("40P01", StoreErrorKind::Unavailable),
            ("53300", StoreErrorKind::Unavailable),
            ("57P01", StoreErrorKind::Unavailable),
            ("25006", StoreErrorKind::Unavailable),
            ("57014", StoreErrorKind::TimedOut),
            ("55P03", StoreErrorKind::TimedOut),
            ("XX001", StoreErrorKind::Corrupt),
            ("42501", StoreErrorKind::Rejected),
            ("42P01", StoreErrorKind::Rejected),
            ("23514", StoreErrorKind::Rejected),
            ("", StoreErrorKind::Rejected),
        ] {
            assert_eq!(kind_of(code), kind, "{code}");
        }
    }
}
