//! The table: made once, by one of the processes that start, and never one that is another release's.

use sqlx::Row as _;

use super::place::Place;
use super::row::column;
use super::statements::Statements;
use super::{NAME, failure};
use crate::error::{Error, ErrorKind};
use crate::store::{StoreError, StoreErrorKind};

/// Also the default of the column `schema_version` in `create_table.sql`.
const VERSION: u32 = 3;

/// How long one process waits for another's migration.
const LOCK_WAIT_SECS: i64 = 30;

/// What there is of the name.
enum Found {
    Nothing,
    Ours,
    Other(String),
}

/// Makes the table unless it is there. When the lock is taken it ends with the connection, which
/// the caller therefore closes, whatever comes of this.
///
/// Looked for before it is made, and without the lock, because most starts find it: they then need
/// neither the right to create tables nor to wait for each other.
pub(super) async fn migrate(
    connection: &mut sqlx::MySqlConnection,
    place: &Place,
    statements: &Statements,
) -> Result<(), Error> {
    if is_ready(connection, place).await? {
        return Ok(());
    }
    let failed = |error| failed(place, failure::of_statement(place, error).error);
    let lock = sqlx::query("SELECT GET_LOCK(?, ?)")
        .bind(place.lock_name(None))
        .bind(LOCK_WAIT_SECS)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let is_locked = lock.try_get::<Option<i64>, _>(0).map_err(failed)?;
    if is_locked != Some(1) {
        let busy = StoreError::new(NAME, StoreErrorKind::Busy);
        let busy = busy.with_source("another process is migrating it");
        return Err(self::failed(place, busy));
    }
    statements
        .create_table()
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    if is_ready(connection, place).await? {
        return Ok(());
    }
    let gone = StoreError::new(NAME, StoreErrorKind::Refused);
    let gone = gone.with_source("it was created and is not there");
    Err(self::failed(place, gone))
}

/// Whether the table is there; an error when it is not one that this release can use.
async fn is_ready(connection: &mut sqlx::MySqlConnection, place: &Place) -> Result<bool, Error> {
    let row = Statements::schema(place).fetch_one(connection).await;
    let row = row.map_err(|error| failed(place, failure::of_statement(place, error).error))?;
    match found(&row, place).map_err(|error| failed(place, error))? {
        Found::Nothing => Ok(false),
        Found::Ours => Ok(true),
        Found::Other(message) => Err(Error::new(ErrorKind::Store, message)
            .with_source(StoreError::new(NAME, StoreErrorKind::Refused))),
    }
}

fn found(row: &sqlx::mysql::MySqlRow, place: &Place) -> Result<Found, StoreError> {
    let (columns, ours): (i64, i64) = (column(row, 0)?, column(row, 1)?);
    let version = column::<Option<&[u8]>>(row, 2)?;
    let version = version.and_then(|version| std::str::from_utf8(version).ok()?.parse().ok());
    Ok(match version {
        _ if columns == 0 => Found::Nothing,
        Some(VERSION) if ours == 3 => Found::Ours,
        Some(version) if ours == 3 => Found::Other(format!(
            "mysql store: the table `{place}` has schema version {version}, and this release of idempotent-runtime reads version {VERSION}: use another table, or the release that made this one"
        )),
        None if ours == 3 => Found::Other(format!(
            "mysql store: the table `{place}` has the schema of an earlier release of idempotent-runtime, and this one reads version {VERSION}: use another table, or drop this one when its records have expired"
        )),
        _ => Found::Other(format!(
            "mysql store: there is a table `{place}` that is not idempotent-runtime's"
        )),
    })
}

fn failed(place: &Place, source: StoreError) -> Error {
    let message = format!("mysql store: the table `{place}` cannot be prepared");
    Error::new(ErrorKind::Store, message).with_source(source)
}
