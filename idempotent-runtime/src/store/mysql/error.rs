//! What went wrong, by the server's error number and never by its text.

use sqlx::mysql::MySqlDatabaseError;

use super::table::QualifiedTable;
use crate::store::sql::{NotMigrated, store_error};
use crate::store::{StoreError, StoreErrorKind};

/// What the store is called in its errors.
pub(super) const NAME: &str = "mysql";

/// A claim of a key that is claimed already: `ER_DUP_ENTRY`.
const DUPLICATE: u16 = 1062;
/// `ER_NO_SUCH_TABLE`.
const NO_SUCH_TABLE: u16 = 1146;
/// `ER_BAD_FIELD_ERROR`.
const NO_SUCH_COLUMN: u16 = 1054;
/// `ER_CHECKREAD` (MariaDB 11 under REPEATABLE READ), `ER_LOCK_DEADLOCK` (also what a cluster's
/// certification refused), `ER_TRANSACTION_ROLLBACK_DURING_COMMIT`: rolled back as a whole, and free to
/// be sent again at once.
const CONFLICTS: [u16; 3] = [1020, 1213, 3101];
/// `ER_LOCK_WAIT_TIMEOUT` (of a table's lock too), `ER_TABLE_DEF_CHANGED`, `ER_NEED_REPREPARE`,
/// `ER_TOO_MANY_CONCURRENT_TRXS`, `ER_LOCK_NOWAIT`.
const BUSY: [u16; 5] = [1205, 1412, 1615, 1637, 3572];
/// `ER_SP_DOES_NOT_EXIST`, which is also what a savepoint that is not there is reported as.
const NO_SAVEPOINT: u16 = 1305;
/// `ER_DISK_FULL`, `ER_RECORD_FILE_FULL`.
const FULL: [u16; 2] = [1021, 1114];
/// `ER_TOO_BIG_ROWSIZE` (also of a response over a tenth of the redo log), `ER_NET_PACKET_TOO_LARGE`,
/// `ER_TOO_LONG_STRING`, `ER_WARN_ALLOWED_PACKET_OVERFLOWED`, `ER_DATA_TOO_LONG`.
const TOO_LARGE: [u16; 5] = [1118, 1153, 1162, 1301, 1406];
/// `ER_STATEMENT_TIMEOUT` of MariaDB, `ER_QUERY_TIMEOUT` of MySQL.
const STATEMENT_TIMEOUTS: [u16; 2] = [1969, 3024];
/// The server failed or was interrupted in the middle, perhaps after the commit: `ER_ERROR_DURING_COMMIT`,
/// `ER_QUERY_INTERRUPTED`, `ER_BINLOG_LOGGING_IMPOSSIBLE` (MySQL ends with it, and what its log has is there afterwards),
/// `ER_RUN_HOOK_ERROR`.
const INTERRUPTED: [u16; 4] = [1180, 1317, 1598, 3100];
/// The connection has ended, or the server is about to: `ER_SERVER_SHUTDOWN`, `ER_NORMAL_SHUTDOWN`,
/// `ER_SHUTDOWN_COMPLETE`, `ER_ABORTING_CONNECTION`, `ER_NET_READ_ERROR_FROM_PIPE` and the other four of
/// the network, `ER_NEW_ABORTING_CONNECTION`, `ER_CONNECTION_KILLED`, `ER_CLIENT_INTERACTION_TIMEOUT`.
const DISCONNECTED: [u16; 12] = [
    1053, 1077, 1079, 1152, 1154, 1158, 1159, 1160, 1161, 1184, 1927, 4031,
];
/// No server's number, but a proxy's word for one that it has lost, on a connection that stays open: those of the client library, such as
/// `CR_SERVER_GONE_ERROR` and `CR_SERVER_LOST`, and `ProxySQL`'s own.
const OF_PROXIES: [std::ops::RangeInclusive<u16>; 2] = [2000..=2999, 9000..=9999];
/// The server has no connection left: `ER_CON_COUNT_ERROR`, `ER_TOO_MANY_USER_CONNECTIONS`,
/// `ER_USER_LIMIT_REACHED`.
const NO_CONNECTION: [u16; 3] = [1040, 1203, 1226];
/// The server does not write, or not any more: `ER_UNKNOWN_COM_ERROR` (a node that has left its Galera
/// cluster), `ER_OPTION_PREVENTS_STATEMENT` (`read_only`, `super_read_only`),
/// `ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION`, `ER_READ_ONLY_MODE`, `ER_INNODB_READ_ONLY`,
/// `ER_SERVER_OFFLINE_MODE`. What was prepared and is not known (`ER_UNKNOWN_STMT_HANDLER`) says that it
/// is another server behind a proxy.
const DEMOTED: [u16; 7] = [1047, 1243, 1290, READ_ONLY, 1836, 1874, 3032];
/// `ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION`.
const READ_ONLY: u16 = 1792;
/// The session has other privileges than it had: `ER_DBACCESS_DENIED_ERROR`, `ER_ACCESS_DENIED_ERROR`,
/// `ER_TABLEACCESS_DENIED_ERROR`, `ER_COLUMNACCESS_DENIED_ERROR`, `ER_SPECIFIC_ACCESS_DENIED_ERROR`.
const DENIED: [u16; 5] = [1044, 1045, 1142, 1143, 1227];
/// The session has locked other tables: `ER_TABLE_NOT_LOCKED_FOR_WRITE`, `ER_TABLE_NOT_LOCKED`.
const NOT_LOCKED: [u16; 2] = [1099, 1100];

/// The table is another release's.
#[derive(Debug, thiserror::Error)]
#[error(
    "table `{table}` does not have the columns of this release; run `MySqlStore::migrate` for details"
)]
struct OtherColumns {
    table: String,
    source: sqlx::Error,
}

/// The packet that a completion or its progress would take is larger than the server takes.
#[derive(Debug, thiserror::Error)]
#[error("the record takes {bytes} bytes, but `max_allowed_packet` is {limit}")]
struct PacketTooLarge {
    bytes: usize,
    limit: usize,
}

/// A store's error, and what it says about the connection.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) error: StoreError,
    about: About,
    is_final: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// This operation only: the connection is as good as before.
    Operation,
    /// This connection, which is not to be used again.
    Connection,
    /// The server: all connections that are as old are of no use either, and a fresh one may be.
    Server,
}

impl Fault {
    /// Of a transaction that was begun: the connection is closed, which ends it.
    pub(super) fn in_transaction(mut self) -> Self {
        if self.about == About::Operation {
            self.about = About::Connection;
        }
        self
    }

    /// Of an operation whose answer would be another one if it was repeated.
    pub(super) fn not_repeatable(mut self) -> Self {
        self.is_final = self.error.may_have_happened();
        self
    }

    pub(super) fn is_of_this_operation(&self) -> bool {
        self.about == About::Operation
    }

    pub(super) fn is_of_server(&self) -> bool {
        self.about == About::Server
    }

    /// Whether a fresh connection may do better, and it does no harm to try.
    pub(super) fn may_be_repeated(&self) -> bool {
        self.is_of_server() && !self.is_final
    }
}

/// A record that cannot be read says nothing about its connection.
impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self {
            error,
            about: About::Operation,
            is_final: true,
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        fault.error
    }
}

pub(super) fn of_statement(table: &QualifiedTable, error: sqlx::Error) -> Fault {
    let refused = StoreError::new(NAME, StoreErrorKind::Refused);
    match number(&error) {
        Some(NO_SUCH_TABLE) => {
            Fault::from(refused.with_source(NotMigrated::new("MySqlStore", Some(error.into()))))
        }
        Some(NO_SUCH_COLUMN) => {
            let other = StoreError::new(NAME, StoreErrorKind::OtherRelease);
            Fault::from(other.with_source(OtherColumns {
                table: table.to_string(),
                source: error,
            }))
        }
        _ => of_server(error),
    }
}

pub(super) fn of_server(error: sqlx::Error) -> Fault {
    let Some(number) = number(&error) else {
        return of_connection(error);
    };
    let of = |kind| StoreError::new(NAME, kind);
    let (failure, about) = match number {
        _ if CONFLICTS.contains(&number) || BUSY.contains(&number) => {
            (of(StoreErrorKind::Busy), About::Operation)
        }
        _ if FULL.contains(&number) => (of(StoreErrorKind::Full), About::Operation),
        _ if TOO_LARGE.contains(&number) => (of(StoreErrorKind::TooLarge), About::Connection),
        _ if STATEMENT_TIMEOUTS.contains(&number) => {
            (of(StoreErrorKind::TimedOut), About::Operation)
        }
        _ if INTERRUPTED.contains(&number) => (of(StoreErrorKind::Unavailable), About::Connection),
        _ if DISCONNECTED.contains(&number)
            || OF_PROXIES.iter().any(|range| range.contains(&number)) =>
        {
            (of(StoreErrorKind::Unavailable), About::Server)
        }
        _ if NO_CONNECTION.contains(&number) => (
            of(StoreErrorKind::Unavailable).not_executed(),
            About::Connection,
        ),
        _ if DEMOTED.contains(&number) => (of(StoreErrorKind::Refused), About::Server),
        // The server has understood and said no. A fresh connection may have other privileges.
        _ => (of(StoreErrorKind::Refused), About::Connection),
    };
    Fault {
        error: failure.with_source(error),
        about,
        is_final: false,
    }
}

/// Of a connection that was idle and does not reply.
pub(super) fn of_silence() -> Fault {
    Fault {
        error: StoreError::new(NAME, StoreErrorKind::TimedOut),
        about: About::Server,
        is_final: false,
    }
}

/// Of no error number: there was no connection, it broke, or what came by it cannot be read.
fn of_connection(error: sqlx::Error) -> Fault {
    let error = store_error(NAME, error);
    let about = match error.kind() {
        StoreErrorKind::Corrupt => About::Connection,
        _ => About::Server,
    };
    Fault {
        error,
        about,
        is_final: false,
    }
}

/// Checked before it is sent: the server ends the connection in the middle of such a packet, and its word
/// for it is seldom read.
pub(super) fn check_packet(bytes: usize, limit: usize) -> Result<(), StoreError> {
    /// What a packet has besides the response or the progress, amply.
    const REST: usize = 512;
    if bytes.saturating_add(REST) <= limit {
        return Ok(());
    }
    let too_large = StoreError::new(NAME, StoreErrorKind::TooLarge);
    Err(too_large.with_source(PacketTooLarge { bytes, limit }))
}

pub(super) fn is_duplicate(error: &sqlx::Error) -> bool {
    number(error) == Some(DUPLICATE)
}

pub(super) fn is_without_savepoint(error: &sqlx::Error) -> bool {
    number(error) == Some(NO_SAVEPOINT)
}

pub(super) fn is_denied(error: &sqlx::Error) -> bool {
    number(error).is_some_and(|number| DENIED.contains(&number))
}

pub(super) fn is_read_only(error: &sqlx::Error) -> bool {
    number(error) == Some(READ_ONLY)
}

pub(super) fn is_not_locked(error: &sqlx::Error) -> bool {
    number(error).is_some_and(|number| NOT_LOCKED.contains(&number))
}

/// Whether two statements were in each other's way, and this one was rolled back as a whole.
pub(super) fn is_conflict(error: &sqlx::Error) -> bool {
    number(error).is_some_and(|number| CONFLICTS.contains(&number))
}

/// Whether another session has what this statement wanted.
pub(super) fn is_in_the_way(error: &sqlx::Error) -> bool {
    is_conflict(error) || number(error).is_some_and(|number| BUSY.contains(&number))
}

fn number(error: &sqlx::Error) -> Option<u16> {
    let database = error.as_database_error()?;
    let error = database.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(error.number())
}
