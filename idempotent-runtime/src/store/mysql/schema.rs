//! The table: made once, by one of the processes that start, and never one that is another release's.

use sqlx::mysql::MySqlRow;

use super::error::{NAME, of_statement};
use super::row::column;
use super::statements::Statements;
use super::table::QualifiedTable;
use crate::error::{Error, ErrorKind};
use crate::store::sql::Found;
use crate::store::{StoreError, StoreErrorKind};

/// The version that this release reads and makes.
pub(super) const VERSION: u32 = 3;

/// How long one process waits for another's migration.
const LOCK_WAIT_SECS: i64 = 30;

/// Makes the table unless it is there. When the lock is taken it ends with the connection, which
/// the caller therefore closes, whatever comes of this.
///
/// Looked for before it is made, and without the lock, because most starts find it: they then need
/// neither the right to create tables nor to wait for each other.
pub(super) async fn migrate(
    connection: &mut sqlx::MySqlConnection,
    table: &QualifiedTable,
    statements: &Statements,
) -> Result<(), Error> {
    if is_ready(connection, table).await? {
        return Ok(());
    }
    let failed = |error| failed(table, of_statement(table, error).error);
    let lock = sqlx::query("SELECT GET_LOCK(?, ?)")
        .bind(table.lock_name(None))
        .bind(LOCK_WAIT_SECS)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let is_locked = column::<Option<i64>>(&lock, 0).map_err(|error| self::failed(table, error))?;
    if is_locked != Some(1) {
        let busy = StoreError::new(NAME, StoreErrorKind::Busy);
        let busy = busy.with_source("another process is migrating it");
        return Err(self::failed(table, busy));
    }
    statements
        .create_table()
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    if is_ready(connection, table).await? {
        return Ok(());
    }
    let gone = StoreError::new(NAME, StoreErrorKind::Refused);
    let gone = gone.with_source("it was created and is not there");
    Err(self::failed(table, gone))
}

/// Whether the table is there; an error when it is not one that this release can use.
async fn is_ready(
    connection: &mut sqlx::MySqlConnection,
    table: &QualifiedTable,
) -> Result<bool, Error> {
    let row = Statements::schema(table).fetch_one(connection).await;
    let row = row.map_err(|error| failed(table, of_statement(table, error).error))?;
    let found = found(&row).map_err(|error| failed(table, error))?;
    found.is_there(table, VERSION).map_err(|unusable| {
        let message = format!("mysql store: {unusable}");
        Error::new(ErrorKind::Store, message).with_source(unusable.of(NAME))
    })
}

/// What there is of that name, as `schema.sql` tells.
pub(super) fn found(row: &MySqlRow) -> Result<Found, StoreError> {
    let (columns, ours): (i64, i64) = (column(row, 0)?, column(row, 1)?);
    let version: Option<&[u8]> = column(row, 2)?;
    let has_key = column::<i64>(row, 3)? == 1;
    let version = version.and_then(|version| str::from_utf8(version).ok()?.parse().ok());
    Ok(match (columns, ours) {
        (0, _) => Found::Nothing,
        (_, 3) if version == Some(VERSION) && !has_key => Found::WithoutKey,
        (_, 3) => Found::Made(version),
        _ => Found::Foreign,
    })
}

fn failed(table: &QualifiedTable, source: StoreError) -> Error {
    let message = format!("mysql store: the table `{table}` cannot be prepared");
    Error::new(ErrorKind::Store, message).with_source(source)
}
