//! Reading the columns of a row.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow as _, Row as _, SqlStr, SqliteConnection};

use super::error::NAME;
use super::time::Time;
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{Record, Token};
use crate::store::listing::{LOOK, Looked};
use crate::store::row::{Details, Row, status};
use crate::store::sql::corrupt;
use crate::store::{ListedRecord, StoreError};

/// The columns of `read.sql` as they are.
pub(super) type Columns = (
    Vec<u8>,
    Option<Vec<u8>>,
    String,
    i64,
    i64,
    i64,
    i64,
    Option<Vec<u8>>,
    Option<String>,
    Option<Vec<u8>>,
    Option<String>,
);

/// The columns of `list.sql` as they are.
type ListedColumns = (
    Vec<u8>,
    String,
    i64,
    i64,
    i64,
    i64,
    String,
    Option<String>,
    i64,
);

pub(super) async fn fetch(
    connection: &mut SqliteConnection,
    read: SqlStr,
    key: &RecordKey,
) -> Result<Option<Columns>, sqlx::Error> {
    let query = sqlx::query_as(read).bind(key.as_bytes().as_slice());
    query.fetch_optional(connection).await
}

/// As many rows as a look reads, after this key.
pub(super) async fn list(
    connection: &mut SqliteConnection,
    list: SqlStr,
    after: &RecordKey,
) -> Result<Vec<Looked<StoreError>>, sqlx::Error> {
    let now = Time::now();
    let query = sqlx::query_as(list).bind(after.as_bytes().as_slice());
    let rows: Vec<ListedColumns> = query.bind(LOOK as i64).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| listed(row, now)).collect())
}

/// Those that are there, with their keys.
pub(super) async fn fetch_all(
    connection: &mut SqliteConnection,
    read_all: SqlStr,
    keys: impl Iterator<Item = &RecordKey>,
) -> Result<Vec<(RecordKey, Columns)>, sqlx::Error> {
    let query = keys.fold(sqlx::query(read_all), |query, key| {
        query.bind(key.as_bytes().to_vec())
    });
    let with_key = |row: &SqliteRow| Ok((key_of(row)?, Columns::from_row(row)?));
    let rows = query.fetch_all(connection).await?;
    rows.iter().map(with_key).collect()
}

/// The column of that name.
pub(super) fn key_of(row: &SqliteRow) -> Result<RecordKey, sqlx::Error> {
    let key: Vec<u8> = row.try_get("record_key")?;
    let key = key.try_into();
    let key = key.map_err(|_| sqlx::Error::Decode("a key is 32 bytes".into()))?;
    Ok(RecordKey::from_bytes(key))
}

#[derive(Debug, thiserror::Error)]
enum BadColumn {
    #[error("column `{0}` has a value that no release has written")]
    Value(&'static str),
    #[error("state is {0:?}; this release knows `running` and `completed`")]
    State(String),
}

/// A row that was read, with all that is in it.
type Decoded = (Row<Vec<u8>>, Details);

/// The record, if it is alive at `now`.
///
/// The time is that before the look: a lease that is renewed in between is then never taken for ended.
pub(super) fn alive(
    columns: Option<Columns>,
    now: Time,
) -> Result<Option<Row<Vec<u8>>>, StoreError> {
    Ok(read(columns, now)?.map(|(row, _)| row))
}

/// The same as a record, of the columns that are selected for callers that ask for them.
pub(super) fn record(columns: Option<Columns>, now: Time) -> Result<Option<Record>, StoreError> {
    let record = read(columns, now)?.map(|(row, details)| row.record(details));
    record.transpose().map_err(|error| corrupt(NAME, error))
}

fn read(columns: Option<Columns>, now: Time) -> Result<Option<Decoded>, StoreError> {
    match columns {
        Some(columns) if Time(columns.6) > now => {
            let read = decoded(columns, now).map_err(|cause| corrupt(NAME, cause))?;
            Ok(Some(read))
        }
        _ => Ok(None),
    }
}

fn decoded(columns: Columns, now: Time) -> Result<Decoded, BadColumn> {
    let (fingerprint, token, state, attempt, created_at, lease_until, expires_at, ..) = columns;
    let (.., response, operation, progress, label) = columns;
    let wrong = BadColumn::Value;
    let token = token.map(|token| token.try_into().map(Token::from_bytes));
    let fingerprint = fingerprint.try_into().map_err(|_| wrong("fingerprint"))?;
    let response = match is_completed(&state)? {
        true => Some(response.ok_or(wrong("response"))?),
        false => None,
    };
    let row = Row {
        fingerprint: Fingerprint::from_bytes(fingerprint),
        token: token.transpose().map_err(|_| wrong("token"))?,
        attempt: number(attempt)?,
        age: now.since(Time(created_at)),
        lease_left: Time(lease_until).since(now),
        expires_in: Time(expires_at).since(now),
        response,
    };
    let details = Details {
        operation: operation.map(Arc::from).unwrap_or_default(),
        label: label.map(Arc::from),
        progress: progress.map(Bytes::from).unwrap_or_default(),
    };
    Ok((row, details))
}

fn is_completed(state: &str) -> Result<bool, BadColumn> {
    match state {
        "running" => Ok(false),
        "completed" => Ok(true),
        _ => Err(BadColumn::State(state.to_owned())),
    }
}

fn number(attempt: i64) -> Result<u32, BadColumn> {
    let attempt = u32::try_from(attempt).ok().filter(|attempt| *attempt > 0);
    attempt.ok_or(BadColumn::Value("attempt"))
}

/// What `list.sql` returns: the key, and the record unless it has expired by then.
fn listed(columns: ListedColumns, now: Time) -> Looked<StoreError> {
    let key = RecordKey::from_bytes(columns.0.as_slice().try_into().ok()?);
    let record = listed_record(key, columns, now);
    Some((key, record.map_err(|cause| corrupt(NAME, cause))))
}

fn listed_record(
    key: RecordKey,
    columns: ListedColumns,
    now: Time,
) -> Result<Option<ListedRecord>, BadColumn> {
    let (_, state, attempt, created_at, lease_until, expires_at, operation, label, size) = columns;
    if Time(expires_at) <= now {
        return Ok(None);
    }
    let (status, lease_left) = status(is_completed(&state)?, Time(lease_until).since(now));
    Ok(Some(ListedRecord {
        attempt: number(attempt)?,
        label: label.map(Arc::from),
        age: now.since(Time(created_at)),
        lease_left,
        expires_in: Time(expires_at).since(now),
        size_bytes: u64::try_from(size).unwrap_or(0),
        ..ListedRecord::new(key, status, operation.into())
    }))
}
