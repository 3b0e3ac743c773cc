//! What went wrong, by the server's error number and never by its text.

use sqlx::mysql::MySqlDatabaseError;

use super::NAME;
use crate::store::sql::{TableName, store_error};
use crate::store::{StoreError, StoreErrorKind};

/// A claim of a key that somebody else has claimed: `ER_DUP_ENTRY`.
const DUPLICATE: u16 = 1062;
/// `ER_NO_SUCH_TABLE`.
const NO_SUCH_TABLE: u16 = 1146;
/// `ER_CHECKREAD` (MariaDB 11 under REPEATABLE READ), `ER_LOCK_WAIT_TIMEOUT`, `ER_LOCK_DEADLOCK` (also
/// what a cluster's certification refused).
const LOCK_CONFLICTS: [u16; 3] = [1020, 1205, 1213];
/// `ER_SP_DOES_NOT_EXIST`, which is also what a savepoint that is not there is reported as.
const NO_SAVEPOINT: u16 = 1305;
/// `ER_DISK_FULL`, `ER_RECORD_FILE_FULL`.
const FULL: [u16; 2] = [1021, 1114];
/// `ER_STATEMENT_TIMEOUT` of MariaDB, `ER_QUERY_TIMEOUT` of MySQL.
const STATEMENT_TIMEOUTS: [u16; 2] = [1969, 3024];
/// The server goes away, has no room for us, ends the connection or the statement, or failed in
/// the middle of a commit: `ER_CON_COUNT_ERROR`, `ER_SERVER_SHUTDOWN`, `ER_NEW_ABORTING_CONNECTION`,
/// `ER_NET_READ_ERROR`, `ER_NET_READ_INTERRUPTED`, `ER_ERROR_DURING_COMMIT`,
/// `ER_TOO_MANY_USER_CONNECTIONS`, `ER_USER_LIMIT_REACHED`, `ER_QUERY_INTERRUPTED`,
/// `ER_CONNECTION_KILLED`.
const UNAVAILABLE: [u16; 10] = [1040, 1053, 1184, 1158, 1159, 1180, 1203, 1226, 1317, 1927];

/// The table is not there.
#[derive(Debug, thiserror::Error)]
#[error("there is no table `{table}`: call `MySqlStore::migrate` once at start")]
struct NotMigrated {
    table: TableName,
    source: sqlx::Error,
}

/// The packet that a completion or its progress would take is larger than the server takes.
#[derive(Debug, thiserror::Error)]
#[error(
    "what is to be stored takes {bytes} bytes and the server's `max_allowed_packet` is {limit}"
)]
pub(super) struct TooLarge {
    pub(super) bytes: usize,
    pub(super) limit: u64,
    pub(super) source: sqlx::Error,
}

pub(super) fn of_statement(table: &TableName, error: sqlx::Error) -> StoreError {
    if number(&error) != Some(NO_SUCH_TABLE) {
        return of_server(error);
    }
    let not_migrated = NotMigrated {
        table: table.clone(),
        source: error,
    };
    StoreError::new(NAME, StoreErrorKind::Rejected).with_source(not_migrated)
}

pub(super) fn of_server(error: sqlx::Error) -> StoreError {
    let kind = match number(&error) {
        Some(number) if LOCK_CONFLICTS.contains(&number) => StoreErrorKind::Unavailable,
        Some(number) if UNAVAILABLE.contains(&number) => StoreErrorKind::Unavailable,
        Some(number) if STATEMENT_TIMEOUTS.contains(&number) => StoreErrorKind::TimedOut,
        Some(number) if FULL.contains(&number) => StoreErrorKind::Full,
        _ => return store_error(NAME, error),
    };
    StoreError::new(NAME, kind).with_source(error)
}

pub(super) fn is_duplicate(error: &sqlx::Error) -> bool {
    number(error) == Some(DUPLICATE)
}

pub(super) fn is_without_savepoint(error: &sqlx::Error) -> bool {
    number(error) == Some(NO_SAVEPOINT)
}

/// Whether two statements were in each other's way: this one was rolled back as a whole.
pub(super) fn is_lock_conflict(error: &sqlx::Error) -> bool {
    number(error).is_some_and(|number| LOCK_CONFLICTS.contains(&number))
}

fn number(error: &sqlx::Error) -> Option<u16> {
    let database = error.as_database_error()?;
    let error = database.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(error.number())
}
