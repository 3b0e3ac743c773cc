//! Reading the columns of a row.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use super::error::NAME;
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{Record, Token};
use crate::store::listing::Looked;
use crate::store::row::{Details, Row, status};
use crate::store::sql::{corrupt, length, store_error};
use crate::store::{ListedRecord, StoreError};

/// Reads what `read.sql` selects; `None` when the record has expired.
pub(super) fn read(row: &MySqlRow) -> Result<Option<Row<&[u8]>>, StoreError> {
    let time = |index| column(row, index).map(length);
    let expires_in = time(0)?;
    if expires_in.is_zero() {
        return Ok(None);
    }
    let response = match is_completed(column(row, 4)?)? {
        true => Some(column::<Option<&[u8]>>(row, 7)?.ok_or_else(no_response)?),
        false => None,
    };
    Ok(Some(Row {
        fingerprint: Fingerprint::from_bytes(bytes(row, 3)?),
        token: token(row, 5)?,
        attempt: column(row, 6)?,
        age: time(2)?,
        lease_left: time(1)?,
        expires_in,
        response,
    }))
}

/// The same as a record, of the columns that are selected for callers that ask for them.
pub(super) fn record(row: &MySqlRow) -> Result<Option<Record>, StoreError> {
    let Some(read) = read(row)? else {
        return Ok(None);
    };
    let progress: Option<&[u8]> = column(row, 8)?;
    let details = Details {
        operation: text(row, 9)?,
        label: optional_text(row, 10)?,
        progress: progress.map(Bytes::copy_from_slice).unwrap_or_default(),
    };
    let record = read.record(details);
    record.map(Some).map_err(|error| corrupt(NAME, error))
}

fn no_response() -> StoreError {
    corrupt(NAME, "completed without a response")
}

/// The column `state`.
const RUNNING: u8 = 1;
/// The column `state`.
const COMPLETED: u8 = 2;

pub(super) fn is_completed(state: u8) -> Result<bool, StoreError> {
    match state {
        RUNNING => Ok(false),
        COMPLETED => Ok(true),
        other => Err(corrupt(
            NAME,
            format!("a record has the unknown state {other}"),
        )),
    }
}

pub(super) fn column<'r, T>(row: &'r MySqlRow, index: usize) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::MySql> + sqlx::Type<sqlx::MySql>,
{
    row.try_get(index).map_err(|error| store_error(NAME, error))
}

pub(super) fn bytes<const N: usize>(row: &MySqlRow, index: usize) -> Result<[u8; N], StoreError> {
    let bytes: &[u8] = column(row, index)?;
    bytes.try_into().map_err(|error| corrupt(NAME, error))
}

/// Missing once its owner has abandoned it.
pub(super) fn token(row: &MySqlRow, index: usize) -> Result<Option<Token>, StoreError> {
    let bytes: Option<&[u8]> = column(row, index)?;
    let token = bytes.map(<[u8; 16]>::try_from).transpose();
    Ok(token
        .map_err(|error| corrupt(NAME, error))?
        .map(Token::from_bytes))
}

/// Empty when it was not asked for.
pub(super) fn text(row: &MySqlRow, index: usize) -> Result<Arc<str>, StoreError> {
    let bytes: Option<&[u8]> = column(row, index)?;
    let text = std::str::from_utf8(bytes.unwrap_or_default());
    text.map(Arc::from).map_err(|error| corrupt(NAME, error))
}

fn optional_text(row: &MySqlRow, index: usize) -> Result<Option<Arc<str>>, StoreError> {
    let is_there = column::<Option<&[u8]>>(row, index)?.is_some();
    is_there.then(|| text(row, index)).transpose()
}

/// What `list.sql` returns: the key, and the record unless it has expired.
pub(super) fn listed(row: &MySqlRow) -> Looked<StoreError> {
    let key = RecordKey::from_bytes(bytes(row, 0).ok()?);
    Some((key, listed_record(row, key)))
}

fn listed_record(row: &MySqlRow, key: RecordKey) -> Result<Option<ListedRecord>, StoreError> {
    let time = |index| column(row, index).map(length);
    let expires_in = time(5)?;
    if expires_in.is_zero() {
        return Ok(None);
    }
    let (status, lease_left) = status(is_completed(column(row, 1)?)?, time(4)?);
    Ok(Some(ListedRecord {
        attempt: column(row, 2)?,
        label: optional_text(row, 7)?,
        age: time(3)?,
        lease_left,
        expires_in,
        size_bytes: u64::try_from(column::<i64>(row, 8)?).unwrap_or(0),
        ..ListedRecord::new(key, status, text(row, 6)?)
    }))
}
