//! The table: made once, by one of the processes that start, and never one that is newer than us.

use sqlx::Row as _;

use super::row::column;
use super::statements::Statements;
use super::{NAME, failure};
use crate::error::{Error, ErrorKind};
use crate::store::sql::TableName;
use crate::store::{StoreError, StoreErrorKind};

const VERSION: u32 = 1;
const COMMENT: &str = "idempotent-runtime schema ";

/// How long one process waits for another's migration.
const LOCK_WAIT_SECS: i64 = 30;

/// Makes the table unless it is there. When the lock is taken it ends with the connection, which
/// the caller therefore closes, whatever comes of this.
///
/// Looked for before it is made, and without the lock, because most starts find it: they then need
/// neither the right to create tables nor to wait for each other.
pub(super) async fn migrate(
    connection: &mut sqlx::MySqlConnection,
    table: &TableName,
    statements: &Statements,
) -> Result<(), Error> {
    if is_ready(connection, table).await? {
        return Ok(());
    }
    let failed = |error| failed(table, failure::of_statement(table, error));
    // A name of at most 64 characters, which the whole server shares.
    let lock = sqlx::query("SELECT GET_LOCK(?, ?)")
        .bind(format!("idempotent:{table}"))
        .bind(LOCK_WAIT_SECS)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let is_locked = lock.try_get::<Option<i64>, _>(0).map_err(failed)?;
    if is_locked != Some(1) {
        let busy = StoreError::new(NAME, StoreErrorKind::TimedOut);
        return Err(self::failed(
            table,
            busy.with_source("another process is migrating it"),
        ));
    }
    statements
        .create_table()
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    if is_ready(connection, table).await? {
        return Ok(());
    }
    let gone = StoreError::new(NAME, StoreErrorKind::Rejected);
    Err(self::failed(
        table,
        gone.with_source("it was created and is not there"),
    ))
}

/// Whether the table is there; an error when it is not one that this release can use.
async fn is_ready(
    connection: &mut sqlx::MySqlConnection,
    table: &TableName,
) -> Result<bool, Error> {
    let found = Statements::schema(table)
        .fetch_one(connection)
        .await
        .map_err(|error| failed(table, failure::of_statement(table, error)))?;
    let failed = |error| failed(table, error);
    if column::<i64>(&found, 0).map_err(failed)? != 1 {
        let message =
            "mysql store: the connections have `autocommit` off, so nothing would ever be stored";
        return Err(Error::new(ErrorKind::Store, message)
            .with_source(StoreError::new(NAME, StoreErrorKind::Rejected)));
    }
    let Some(comment) = column::<Option<&[u8]>>(&found, 1).map_err(failed)? else {
        return Ok(false);
    };
    let message = match version(comment) {
        Some(VERSION) => return Ok(true),
        Some(version) => format!(
            "mysql store: the table `{table}` has schema version {version}, and this release of idempotent-runtime reads version {VERSION}"
        ),
        None => format!("mysql store: there is a table `{table}` that is not idempotent-runtime's"),
    };
    Err(Error::new(ErrorKind::Store, message)
        .with_source(StoreError::new(NAME, StoreErrorKind::Corrupt)))
}

fn version(comment: &[u8]) -> Option<u32> {
    let comment = std::str::from_utf8(comment).ok()?;
    comment.strip_prefix(COMMENT)?.parse().ok()
}

fn failed(table: &TableName, source: StoreError) -> Error {
    let message = format!("mysql store: the table `{table}` cannot be prepared");
    Error::new(ErrorKind::Store, message).with_source(source)
}
