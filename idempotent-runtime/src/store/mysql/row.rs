//! One row, read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use super::NAME;
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{Record, RecordState, StoredResponse, Token};
use crate::store::listing::warn_unreadable;
use crate::store::sql::{corrupt, store_error};
use crate::store::{Acquired, Claim, ClaimRequest, ListedRecord, RecordStatus, StoreError};

/// A record that has not expired, as it was at one moment of the server's clock.
pub(super) struct Row {
    pub(super) fingerprint: Fingerprint,
    /// Missing once its owner has abandoned it.
    pub(super) token: Option<Token>,
    pub(super) attempt: u32,
    pub(super) age: Duration,
    expires_in: Duration,
    state: RecordState,
    progress: Bytes,
    operation: Arc<str>,
    label: Option<Arc<str>>,
}

impl Row {
    /// Reads what `read.sql` selects; `None` when it has expired.
    pub(super) fn read(row: &MySqlRow) -> Result<Option<Self>, StoreError> {
        let get = |index| micros(row, index);
        let Some(expires_in) = get(0)? else {
            return Ok(None);
        };
        let state = match (column::<u8>(row, 4)?, get(1)?) {
            (RUNNING, Some(lease_left)) => RecordState::Running { lease_left },
            (RUNNING, None) => RecordState::Abandoned,
            (COMPLETED, _) => RecordState::Completed(Arc::new(response(row)?)),
            (other, _) => return Err(unknown_state(other)),
        };
        let progress: Option<&[u8]> = column(row, 8)?;
        Ok(Some(Self {
            fingerprint: Fingerprint::from_bytes(bytes(row, 3)?),
            token: token(row, 5)?,
            attempt: column(row, 6)?,
            age: get(2)?.unwrap_or_default(),
            expires_in,
            state,
            progress: progress.map(Bytes::copy_from_slice).unwrap_or_default(),
            operation: text(row, 9)?,
            label: optional_text(row, 10)?,
        }))
    }

    /// Steps 2 to 5 and 7 of [`Store::claim`](crate::store::Store::claim); `None` is step 6: to be
    /// taken over.
    pub(super) fn answer(&self, request: &ClaimRequest<'_>) -> Option<Claim> {
        let (attempt, age) = (self.attempt, self.age);
        Some(match &self.state {
            _ if self.fingerprint != request.fingerprint => Claim::Mismatch,
            RecordState::Completed(response) => Claim::Completed(Arc::clone(response)),
            _ if self.token == Some(request.owner.token) => {
                Claim::Acquired(Acquired { attempt, age })
            }
            RecordState::Running { lease_left } => Claim::InFlight {
                lease_left: *lease_left,
            },
            RecordState::Abandoned if request.take_over == Some(attempt) => return None,
            RecordState::Abandoned => Claim::Abandoned { attempt, age },
        })
    }

    pub(super) fn next_attempt(&self) -> u32 {
        self.attempt.saturating_add(1)
    }
}

impl From<Row> for Record {
    fn from(row: Row) -> Self {
        Self {
            fingerprint: row.fingerprint,
            operation: row.operation,
            label: row.label,
            attempt: row.attempt,
            age: row.age,
            expires_in: row.expires_in,
            state: row.state,
            progress: row.progress,
        }
    }
}

/// The column `state`.
pub(super) const RUNNING: u8 = 1;
/// The column `state`.
pub(super) const COMPLETED: u8 = 2;

pub(super) fn unknown_state(state: u8) -> StoreError {
    corrupt(NAME, format!("a record has the unknown state {state}"))
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

/// What `list.sql` returns: the keys, and the records that have not expired.
pub(super) fn listed(rows: &[MySqlRow]) -> Vec<(RecordKey, Option<ListedRecord>)> {
    let of_row = |row: &MySqlRow| {
        let key = RecordKey::from_bytes(bytes(row, 0).ok()?);
        let record = listed_record(row, key).unwrap_or_else(|error| {
            warn_unreadable(&key, &error);
            None
        });
        Some((key, record))
    };
    rows.iter().filter_map(of_row).collect()
}

fn listed_record(row: &MySqlRow, key: RecordKey) -> Result<Option<ListedRecord>, StoreError> {
    let Some(expires_in) = micros(row, 5)? else {
        return Ok(None);
    };
    let (status, lease_left) = match (column::<u8>(row, 1)?, micros(row, 4)?) {
        (RUNNING, Some(lease_left)) => (RecordStatus::InFlight, lease_left),
        (RUNNING, None) => (RecordStatus::Abandoned, Duration::ZERO),
        (COMPLETED, _) => (RecordStatus::Completed, Duration::ZERO),
        (other, _) => return Err(unknown_state(other)),
    };
    Ok(Some(ListedRecord {
        attempt: column(row, 2)?,
        label: optional_text(row, 7)?,
        age: micros(row, 3)?.unwrap_or_default(),
        lease_left,
        expires_in,
        ..ListedRecord::new(key, status, text(row, 6)?)
    }))
}

/// A length of time; `None` when it is over.
fn micros(row: &MySqlRow, index: usize) -> Result<Option<Duration>, StoreError> {
    let micros: i64 = column(row, index)?;
    let left = u64::try_from(micros).ok().filter(|left| *left > 0);
    Ok(left.map(Duration::from_micros))
}

fn response(row: &MySqlRow) -> Result<StoredResponse, StoreError> {
    let bytes: Option<&[u8]> = column(row, 7)?;
    let bytes = bytes.ok_or_else(|| corrupt(NAME, "completed without a response"))?;
    StoredResponse::decode(bytes).map_err(|error| corrupt(NAME, error))
}
