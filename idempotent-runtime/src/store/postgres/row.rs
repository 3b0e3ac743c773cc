//! Reading rows. What no release of this crate has written is corrupt, never absent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgRow, PgTypeInfo, PgValueRef};
use sqlx::{Postgres, Row as _};

use super::error::{NAME, store_error};
use super::grouped::Done;
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{Record, StoredResponse};
use crate::store::listing::Looked;
use crate::store::row::{Details, Row, status};
use crate::store::sql::{corrupt, length};
use crate::store::transaction::{self, Settled, TransactionRequest};
use crate::store::{
    Acquired, Claim, Completion, ListedRecord, Progress, Purged, PurgedClaim, StoreError,
    StoreErrorKind,
};

/// The built-in type of this name.
const TIMESTAMPTZ: Oid = Oid(1184);

/// The only row.
pub(super) fn one(rows: Vec<PgRow>) -> Result<PgRow, StoreError> {
    let no_row = || store_error(sqlx::Error::RowNotFound);
    rows.into_iter().next().ok_or_else(no_row)
}

/// What `claim_new.sql` has written, or `claim.sql` returns.
pub(super) fn claim(done: &Done) -> Result<Claim, StoreError> {
    let Done::Told(row) = done else {
        return Ok(Claim::Acquired(Acquired {
            attempt: 1,
            age: Duration::ZERO,
        }));
    };
    let outcome: &str = column(row, "outcome")?;
    Ok(match outcome {
        "acquired" => Claim::Acquired(Acquired {
            attempt: attempt(row, "attempt_number")?,
            age: duration(row, "age_us")?,
        }),
        "completed" => {
            let response = StoredResponse::decode(column(row, "answer")?);
            Claim::Completed(Arc::new(response.map_err(|error| corrupt(NAME, error))?))
        }
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

/// What `complete_running.sql` has written, or `complete.sql` returns.
pub(super) fn completion(done: &Done) -> Result<Completion, StoreError> {
    let Done::Told(row) = done else {
        return Ok(Completion::Stored);
    };
    let outcome: &str = column(row, "outcome")?;
    match outcome {
        "stored" => Ok(Completion::Stored),
        "already_mine" => Ok(Completion::AlreadyCompleted),
        "lost" => Ok(Completion::Lost),
        _ => Err(corrupt(NAME, "record of an unknown state")),
    }
}

/// A record that has not expired, as `enter.sql` and `look.sql` return it, of whatever driver the row is.
pub(super) struct SeenRecord<'r> {
    pub(super) fingerprint: &'r [u8],
    pub(super) state: i16,
    pub(super) response: Option<&'r [u8]>,
    pub(super) attempt: i32,
    pub(super) age: Duration,
    pub(super) lease_left: Duration,
}

impl SeenRecord<'_> {
    /// What it says.
    pub(super) fn settled(
        &self,
        request: &TransactionRequest,
    ) -> Result<Option<Settled>, StoreError> {
        let fingerprint = fingerprint(self.fingerprint)?;
        // Before its state is read, which can be damaged.
        if fingerprint != request.fingerprint {
            return Ok(Some(Claim::Mismatch));
        }
        let missing = || corrupt(NAME, "completed record without a response");
        let read = Row {
            fingerprint,
            token: None,
            attempt: u32::try_from(self.attempt).map_err(|error| corrupt(NAME, error))?,
            age: self.age,
            lease_left: self.lease_left,
            expires_in: Duration::ZERO,
            response: match is_state_completed(self.state)? {
                true => Some(self.response.ok_or_else(missing)?),
                false => None,
            },
        };
        let claim = read.claim(&request.fingerprint, request.owner.token);
        Ok(transaction::settled(
            claim.map_err(|error| corrupt(NAME, error))?,
        ))
    }
}

/// What the record that `enter.sql` and `look.sql` return says, if there is one that counts.
pub(super) fn settled(
    row: &PgRow,
    request: &TransactionRequest,
) -> Result<Option<Settled>, StoreError> {
    let (Some(fingerprint), false) = (column(row, "fingerprint")?, is_expired(row)?) else {
        return Ok(None);
    };
    let seen = SeenRecord {
        fingerprint,
        state: column(row, "state")?,
        response: column(row, "response")?,
        attempt: column(row, "attempt")?,
        age: between(row, "created_at", "now")?,
        lease_left: between(row, "now", "lease_until")?,
    };
    seen.settled(request)
}

/// Whether there is a record in what `enter.sql` and `look.sql` return.
pub(super) fn is_there(row: &PgRow) -> Result<bool, StoreError> {
    Ok(column::<Option<i32>>(row, "attempt")?.is_some())
}

fn is_expired(row: &PgRow) -> Result<bool, StoreError> {
    Ok(between(row, "now", "expires_at")?.is_zero())
}

/// What `save_progress.sql` returns.
pub(super) fn progress(row: &PgRow) -> Result<Progress, StoreError> {
    let outcome: &str = column(row, "outcome")?;
    match outcome {
        "saved" => Ok(Progress::Saved),
        "behind" => {
            let stored: i32 = column(row, "stored_bytes")?;
            let stored_bytes = usize::try_from(stored).map_err(|error| corrupt(NAME, error))?;
            Ok(Progress::Behind { stored_bytes })
        }
        "lost" => Ok(Progress::Lost),
        _ => Err(corrupt(NAME, "record of an unknown state")),
    }
}

/// What `renew.sql`, `release.sql` and
/// `abandon.sql` say of each of so many items.
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

/// What `purge.sql` returns.
pub(super) fn purged(rows: &[PgRow]) -> Result<Purged, StoreError> {
    let mut abandoned = Vec::new();
    for row in rows {
        let key: Option<&[u8]> = column(row, "record_key")?;
        let operation: Option<&str> = column(row, "operation")?;
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

/// What `get.sql` returns.
pub(super) fn record(row: &PgRow) -> Result<Record, StoreError> {
    let read = Row {
        fingerprint: fingerprint(column(row, "fingerprint")?)?,
        token: None,
        attempt: attempt(row, "attempt")?,
        age: duration(row, "age_us")?,
        lease_left: duration(row, "lease_left_us")?,
        expires_in: duration(row, "expires_in_us")?,
        response: response(row)?,
    };
    let progress: Option<&[u8]> = column(row, "progress")?;
    let operation: &str = column(row, "operation")?;
    let details = Details {
        operation: operation.into(),
        label: label(row)?,
        progress: progress.map(Bytes::copy_from_slice).unwrap_or_default(),
    };
    read.record(details).map_err(|error| corrupt(NAME, error))
}

/// What `list.sql` returns: the key, and the record unless it has expired.
pub(super) fn listed(row: &PgRow) -> Looked<StoreError> {
    let key: &[u8] = row.try_get("record_key").ok()?;
    let key = RecordKey::from_bytes(key.try_into().ok()?);
    Some((key, listed_record(row, key)))
}

fn listed_record(row: &PgRow, key: RecordKey) -> Result<Option<ListedRecord>, StoreError> {
    let expires_in = duration(row, "expires_in_us")?;
    if expires_in.is_zero() {
        return Ok(None);
    }
    let (status, lease_left) = status(is_completed(row)?, duration(row, "lease_left_us")?);
    let operation: &str = column(row, "operation")?;
    Ok(Some(ListedRecord {
        attempt: attempt(row, "attempt")?,
        label: label(row)?,
        age: duration(row, "age_us")?,
        lease_left,
        expires_in,
        size_bytes: u64::try_from(column::<i64>(row, "size_bytes")?).unwrap_or(0),
        ..ListedRecord::new(key, status, operation.into())
    }))
}

fn label(row: &PgRow) -> Result<Option<Arc<str>>, StoreError> {
    let label: Option<&str> = column(row, "label")?;
    Ok(label.map(Arc::from))
}

fn attempt(row: &PgRow, name: &str) -> Result<u32, StoreError> {
    let attempt: i32 = column(row, name)?;
    u32::try_from(attempt).map_err(|error| corrupt(NAME, error))
}

/// Zero for what is past.
fn duration(row: &PgRow, name: &str) -> Result<Duration, StoreError> {
    column(row, name).map(length)
}

/// From one column to the other; zero if that is earlier, or missing.
fn between(row: &PgRow, from: &str, to: &str) -> Result<Duration, StoreError> {
    let times: (Timestamp, Option<Timestamp>) = (column(row, from)?, column(row, to)?);
    let (Timestamp(from), Some(Timestamp(to))) = times else {
        return Ok(Duration::ZERO);
    };
    Ok(length(to.saturating_sub(from)))
}

/// A `timestamptz` as the server sends it: microseconds since 2000.
struct Timestamp(i64);

impl sqlx::Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl<'r> sqlx::Decode<'r, Postgres> for Timestamp {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(i64::from_be_bytes(value.as_bytes()?.try_into()?)))
    }
}

fn is_completed(row: &PgRow) -> Result<bool, StoreError> {
    is_state_completed(column(row, "state")?)
}

fn is_state_completed(state: i16) -> Result<bool, StoreError> {
    match state {
        1 => Ok(false),
        2 => Ok(true),
        _ => Err(corrupt(NAME, "record of an unknown state")),
    }
}

pub(super) fn column<'r, T>(row: &'r PgRow, name: &str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
{
    row.try_get(name).map_err(store_error)
}

fn fingerprint(hash: &[u8]) -> Result<Fingerprint, StoreError> {
    let hash = hash.try_into().map_err(|error| corrupt(NAME, error))?;
    Ok(Fingerprint::from_bytes(hash))
}

/// That of a completed record, encoded.
fn response(row: &PgRow) -> Result<Option<&[u8]>, StoreError> {
    match is_completed(row)? {
        true => column(row, "response").map(Some),
        false => Ok(None),
    }
}
