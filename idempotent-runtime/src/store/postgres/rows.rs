//! Reading rows. What no release of this crate has written is corrupt, never absent.

use std::array::TryFromSliceError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::NAME;
use super::error::store_error;
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{Record, RecordState, StoredResponse};
use crate::store::listing::warn_unreadable;
use crate::store::sql::corrupt;
use crate::store::transaction::Settled;
use crate::store::{
    Acquired, Claim, Completion, ListedRecord, Progress, Purged, PurgedClaim, RecordStatus,
    StoreError, StoreErrorKind,
};

/// The only row.
pub(super) fn one(rows: Vec<PgRow>) -> Result<PgRow, StoreError> {
    let no_row = || store_error(sqlx::Error::RowNotFound);
    rows.into_iter().next().ok_or_else(no_row)
}

/// What [`claim.sql`](../claim.sql) returns.
pub(super) fn claim(row: &PgRow) -> Result<Claim, StoreError> {
    let outcome: &str = row.try_get("outcome").map_err(store_error)?;
    Ok(match outcome {
        "acquired" => Claim::Acquired(Acquired {
            attempt: attempt(row, "attempt_number")?,
            age: duration(row, "age_us")?,
        }),
        "completed" => Claim::Completed(response(row, "answer")?),
        "in_flight" => Claim::InFlight {
            lease_left: duration(row, "lease_left_us")?,
        },
        "abandoned" => Claim::Abandoned {
            attempt: attempt(row, "attempt_number")?,
            age: duration(row, "age_us")?,
        },
        "mismatch" => Claim::Mismatch,
        _ => return Err(corrupt(NAME, "record of an unknown state or length")),
    })
}

/// What [`complete.sql`](../complete.sql) returns.
pub(super) fn completion(row: &PgRow) -> Result<Completion, StoreError> {
    let outcome: &str = row.try_get("outcome").map_err(store_error)?;
    match outcome {
        "stored" => Ok(Completion::Stored),
        "already_mine" => Ok(Completion::AlreadyCompleted),
        "lost" => Ok(Completion::Lost),
        _ => Err(corrupt(NAME, "record of an unknown state")),
    }
}

/// The record that [`enter.sql`](../enter.sql) returns, if there is one that counts.
pub(super) fn settled(
    row: &PgRow,
    fingerprint: &Fingerprint,
) -> Result<Option<Settled>, StoreError> {
    let hash: Option<&[u8]> = row.try_get("request_hash").map_err(store_error)?;
    let is_expired: Option<bool> = row.try_get("is_expired").map_err(store_error)?;
    let (Some(hash), Some(false)) = (hash, is_expired) else {
        return Ok(None);
    };
    if hash.len() != fingerprint.as_bytes().len() {
        return Err(corrupt(NAME, "request hash of an unknown length"));
    }
    if hash != fingerprint.as_bytes() {
        return Ok(Some(Claim::Mismatch));
    }
    let state: i16 = row.try_get("state").map_err(store_error)?;
    let lease_left = duration(row, "lease_left_us")?;
    Ok(Some(match state {
        1 if lease_left.is_zero() => Claim::Abandoned {
            attempt: attempt(row, "attempt")?,
            age: duration(row, "age_us")?,
        },
        1 => Claim::InFlight { lease_left },
        2 => Claim::Completed(response(row, "response")?),
        _ => return Err(corrupt(NAME, "record of an unknown state")),
    }))
}

/// What [`save_progress.sql`](../save_progress.sql) returns.
pub(super) fn progress(row: &PgRow) -> Result<Progress, StoreError> {
    let outcome: &str = row.try_get("outcome").map_err(store_error)?;
    match outcome {
        "saved" => Ok(Progress::Saved),
        "behind" => {
            let stored: i32 = row.try_get("stored_bytes").map_err(store_error)?;
            let stored_bytes = usize::try_from(stored).map_err(|error| corrupt(NAME, error))?;
            Ok(Progress::Behind { stored_bytes })
        }
        "lost" => Ok(Progress::Lost),
        _ => Err(corrupt(NAME, "record of an unknown state")),
    }
}

/// What [`renew.sql`](../renew.sql), [`release.sql`](../release.sql) and
/// [`abandon.sql`](../abandon.sql) say of each of so many items.
pub(super) fn each<T: Copy>(
    reply: Result<Vec<PgRow>, StoreError>,
    items: usize,
    done: T,
    lost: T,
) -> Vec<Result<T, StoreError>> {
    let rows = match reply {
        Ok(rows) => rows,
        Err(error) => return vec![Err(error); items],
    };
    let no_row = || Err(store_error(sqlx::Error::RowNotFound));
    let mut results = vec![no_row(); items];
    for row in rows {
        let place: Option<i64> = row.try_get("place").ok();
        let index = place.and_then(|place| usize::try_from(place - 1).ok());
        if let Some(result) = index.and_then(|index| results.get_mut(index)) {
            *result = match row.try_get("outcome").map_err(store_error) {
                Ok("done") => Ok(done),
                Ok("busy") => Err(StoreError::new(NAME, StoreErrorKind::Busy)),
                Ok(_) => Ok(lost),
                Err(error) => Err(error),
            };
        }
    }
    results
}

/// What [`purge.sql`](../purge.sql) returns.
pub(super) fn purged(rows: &[PgRow]) -> Result<Purged, StoreError> {
    let mut abandoned = Vec::new();
    for row in rows {
        let key: Option<&[u8]> = row.try_get("key").map_err(store_error)?;
        let operation: Option<&str> = row.try_get("operation").map_err(store_error)?;
        // A key of another length is nothing that this crate has written.
        let key = key.and_then(|key| <[u8; 32]>::try_from(key).ok());
        if let (Some(key), Some(operation)) = (key, operation) {
            abandoned.push(PurgedClaim {
                key: RecordKey::from_bytes(key),
                operation: operation.into(),
            });
        }
    }
    Ok(Purged {
        records: rows.len(),
        abandoned,
    })
}

/// What [`get.sql`](../get.sql) returns.
pub(super) fn record(row: &PgRow) -> Result<Record, StoreError> {
    let hash: &[u8] = row.try_get("request_hash").map_err(store_error)?;
    let hash = hash
        .try_into()
        .map_err(|error: TryFromSliceError| corrupt(NAME, error))?;
    let lease_left = duration(row, "lease_left_us")?;
    let state: i16 = row.try_get("state").map_err(store_error)?;
    let state = match state {
        1 if lease_left.is_zero() => RecordState::Abandoned,
        1 => RecordState::Running { lease_left },
        2 => RecordState::Completed(response(row, "response")?),
        _ => return Err(corrupt(NAME, "record of an unknown state")),
    };
    let progress: Option<&[u8]> = row.try_get("progress").map_err(store_error)?;
    Ok(Record {
        fingerprint: Fingerprint::from_bytes(hash),
        operation: row
            .try_get::<&str, _>("operation")
            .map_err(store_error)?
            .into(),
        label: label(row)?,
        attempt: attempt(row, "attempt")?,
        age: duration(row, "age_us")?,
        expires_in: duration(row, "expires_in_us")?,
        state,
        progress: progress.map(Bytes::copy_from_slice).unwrap_or_default(),
    })
}

/// What [`list.sql`](../list.sql) returns: the keys, and the records that have not expired.
pub(super) fn listed(rows: &[PgRow]) -> Vec<(RecordKey, Option<ListedRecord>)> {
    let of_row = |row: &PgRow| {
        let key: &[u8] = row.try_get("key").ok()?;
        // A key of another length is nothing that this crate has written.
        let key = RecordKey::from_bytes(key.try_into().ok()?);
        let record = listed_record(row, key).unwrap_or_else(|error| {
            warn_unreadable(&key, &error);
            None
        });
        Some((key, record))
    };
    rows.iter().filter_map(of_row).collect()
}

fn listed_record(row: &PgRow, key: RecordKey) -> Result<Option<ListedRecord>, StoreError> {
    let expires_in = duration(row, "expires_in_us")?;
    if expires_in.is_zero() {
        return Ok(None);
    }
    let lease_left = duration(row, "lease_left_us")?;
    let state: i16 = row.try_get("state").map_err(store_error)?;
    let (status, lease_left) = match state {
        1 if lease_left.is_zero() => (RecordStatus::Abandoned, Duration::ZERO),
        1 => (RecordStatus::InFlight, lease_left),
        2 => (RecordStatus::Completed, Duration::ZERO),
        _ => return Err(corrupt(NAME, "record of an unknown state")),
    };
    let operation: &str = row.try_get("operation").map_err(store_error)?;
    Ok(Some(ListedRecord {
        attempt: attempt(row, "attempt")?,
        label: label(row)?,
        age: duration(row, "age_us")?,
        lease_left,
        expires_in,
        ..ListedRecord::new(key, status, operation.into())
    }))
}

fn label(row: &PgRow) -> Result<Option<Arc<str>>, StoreError> {
    let label: Option<&str> = row.try_get("label").map_err(store_error)?;
    Ok(label.map(Arc::from))
}

fn attempt(row: &PgRow, column: &str) -> Result<u32, StoreError> {
    let attempt: i32 = row.try_get(column).map_err(store_error)?;
    u32::try_from(attempt).map_err(|error| corrupt(NAME, error))
}

/// Zero for what is past.
fn duration(row: &PgRow, column: &str) -> Result<Duration, StoreError> {
    let micros: i64 = row.try_get(column).map_err(store_error)?;
    Ok(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

fn response(row: &PgRow, column: &str) -> Result<Arc<StoredResponse>, StoreError> {
    let bytes: &[u8] = row.try_get(column).map_err(store_error)?;
    let response = StoredResponse::decode(bytes).map_err(|error| corrupt(NAME, error))?;
    Ok(Arc::new(response))
}
