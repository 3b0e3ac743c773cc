//! Errors by SQLSTATE, never by text.

use std::borrow::Cow;
use std::error::Error;

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::store::sql::{self, NotMigrated};
use crate::store::{StoreError, StoreErrorKind};

/// What the store is called in its errors.
pub(super) const NAME: &str = "postgres";

pub(super) fn store_error(error: sqlx::Error) -> StoreError {
    match code(&error).map(Cow::into_owned) {
        Some(code) => said(&code, ends_session(&error), error.into()),
        None => sql::store_error(NAME, error),
    }
}

/// What the server has said, with this SQLSTATE, and whether it ends the session with it.
pub(super) fn said(
    code: &str,
    ends_session: bool,
    error: Box<dyn Error + Send + Sync>,
) -> StoreError {
    let failure = StoreError::new(NAME, kind_of(code));
    let failure = match code {
        "57014" | "57P03" | "53300" => failure.not_executed(),
        // system_error, internal_error: what poolers say of a server that they have lost.
        "58000" | "XX000" => failure.maybe_executed(),
        // A server that ends a session in the middle of a statement may have committed it, whatever the reason: one that
        // panics because it cannot flush its log has written the commit there.
        _ if ends_session => failure.maybe_executed(),
        _ => failure,
    };
    match code {
        // undefined_table, undefined_function
        "42P01" | "42883" => failure.with_source(NotMigrated::new("PostgresStore", Some(error))),
        _ => failure.with_source(error),
    }
}

/// The pool of the handlers may not write records.
pub(super) fn not_allowed(relation: &str) -> StoreError {
    let cause = format!(
        "the role of the pool that `#[tx]` uses may not write records: GRANT SELECT, INSERT, UPDATE on {relation} to it"
    );
    StoreError::new(NAME, StoreErrorKind::Refused)
        .with_source(cause)
        .not_executed()
}

/// The SQLSTATE of what the server says.
pub(super) fn code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error().and_then(DatabaseError::code)
}

/// Whether it is the connection that is of no use, and not what was sent: it broke, the server has ended
/// it, it is to a server that is no primary, or what it has prepared no longer fits.
pub(super) fn is_of_connection(error: &sqlx::Error) -> bool {
    let Some(code) = code(error) else {
        return !matches!(error, sqlx::Error::Encode(_) | sqlx::Error::RowNotFound);
    };
    ends_session(error) || is_code_of_connection(&code)
}

/// Whether the server says that it ends the session.
fn ends_session(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(<dyn DatabaseError>::try_downcast_ref::<PgDatabaseError>)
        .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// Whether a SQLSTATE says the same.
pub(super) fn is_code_of_connection(code: &str) -> bool {
    matches!(
        code,
        // read_only_sql_transaction; feature_not_supported ("cached plan must not change result type");
        // invalid_sql_statement_name, duplicate_prepared_statement (behind a proxy that mixes sessions);
        // in_failed_sql_transaction, active_sql_transaction: another statement's transaction is open
        "25006" | "0A000" | "26000" | "42P05" | "25P02" | "25001"
    ) || matches!(code.get(..2), Some("08" | "57") if code != "57014")
}

/// Whether there is no such savepoint, or no transaction that could have one.
pub(super) fn is_without_savepoint(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| is_code_without_savepoint(&code))
}

/// Whether a SQLSTATE says the same.
pub(super) fn is_code_without_savepoint(code: &str) -> bool {
    // invalid_savepoint_specification, no_active_sql_transaction
    matches!(code, "3B001" | "25P01")
}

/// Whether there is no transaction at all.
pub(super) fn is_code_without_transaction(code: &str) -> bool {
    // no_active_sql_transaction
    code == "25P01"
}

/// Whether it says what a handler has done to its own session: nothing is wrong with the pool's other connections.
pub(super) fn is_code_of_handler(code: &str) -> bool {
    // read_only_sql_transaction, invalid_sql_statement_name, in_failed_sql_transaction
    matches!(code, "25006" | "26000" | "25P02")
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
        // query_canceled: `statement_timeout`
        "57014" => StoreErrorKind::TimedOut,
        // lock_not_available: `lock_timeout`
        "55P03" => StoreErrorKind::Busy,
        // undefined_column: the table is there, and is another release's
        "42703" => StoreErrorKind::OtherRelease,
        // disk_full
        "53100" => StoreErrorKind::Full,
        // too_many_connections, statement_completion_unknown
        "53300" | "40003" => StoreErrorKind::Unavailable,
        _ => match code.get(..2).unwrap_or_default() {
            // Connection exception; operator intervention, which ends the session.
            "08" | "57" => StoreErrorKind::Unavailable,
            // Transaction rollback: serialization, deadlock.
            "40" => StoreErrorKind::Busy,
            // None is about the item: 54000 is also said by a server that takes no more commands before
            // its transaction ids wrap around, and XX001 of any damaged page.
            // Read-only, no permission, no such user, no such schema, out of memory, a constraint, a plan that
            // no longer fits, ...: the statement was undone, and what is in its way can be changed.
            _ => StoreErrorKind::Refused,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstate_decides_the_kind() {
        for (code, kind) in [
            ("08006", StoreErrorKind::Unavailable),
            ("40001", StoreErrorKind::Busy),
            ("40P01", StoreErrorKind::Busy),
            ("55P03", StoreErrorKind::Busy),
            ("53100", StoreErrorKind::Full),
            ("53200", StoreErrorKind::Refused),
            ("53300", StoreErrorKind::Unavailable),
            ("57P01", StoreErrorKind::Unavailable),
            ("57P05", StoreErrorKind::Unavailable),
            ("25006", StoreErrorKind::Refused),
            ("0A000", StoreErrorKind::Refused),
            ("28P01", StoreErrorKind::Refused),
            ("57014", StoreErrorKind::TimedOut),
            ("54000", StoreErrorKind::Refused),
            ("XX000", StoreErrorKind::Refused),
            ("XX001", StoreErrorKind::Refused),
            ("XX002", StoreErrorKind::Refused),
            ("42501", StoreErrorKind::Refused),
            ("42P01", StoreErrorKind::Refused),
            ("42703", StoreErrorKind::OtherRelease),
            ("23514", StoreErrorKind::Refused),
            ("", StoreErrorKind::Refused),
        ] {
            assert_eq!(kind_of(code), kind, "{code}");
        }
    }

    #[test]
    fn what_a_pooler_may_say_of_a_server_that_it_has_lost_may_have_happened() {
        for (code, may_have_happened) in [
            ("58000", true),
            ("XX000", true),
            ("08P01", true),
            ("42501", false),
            ("57014", false),
        ] {
            let error = said(code, false, "what it says".into());
            assert_eq!(error.may_have_happened(), may_have_happened, "{code}");
        }
    }

    #[test]
    fn what_ends_the_session_in_the_middle_may_have_happened() {
        for (code, may_have_happened) in [
            ("58030", true),
            ("53100", true),
            ("XX001", true),
            ("57P01", true),
            // Said before anything is asked for.
            ("53300", false),
            ("57P03", false),
        ] {
            let error = said(code, true, "what it says".into());
            assert_eq!(error.may_have_happened(), may_have_happened, "{code}");
        }
        assert!(!said("53100", false, "no room for a row".into()).may_have_happened());
    }
}
