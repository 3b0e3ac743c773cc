//! A row, read and understood.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow as _, Row as _, SqlStr, SqliteConnection};

use super::NAME;
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{Owner, Record, RecordState, StoredResponse, Token};
use crate::store::listing::warn_unreadable;
use crate::store::sql::corrupt;
use crate::store::{Acquired, Claim, Completion, ListedRecord, RecordStatus, StoreError};

/// A point in time: microseconds since 1970 by this machine's clock, which every process that has
/// the file open shares.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(pub(super) i64);

impl Time {
    pub(super) fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(0).after(since_1970.unwrap_or_default())
    }

    pub(super) fn after(self, length: Duration) -> Self {
        let micros = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// Zero when that is not earlier: clocks are set back now and then.
    pub(super) fn since(self, earlier: Self) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

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
pub(super) type ListedColumns = (Vec<u8>, String, i64, i64, i64, i64, String, Option<String>);

/// The keys, and the records that have not expired by then.
pub(super) fn listed(
    rows: Vec<ListedColumns>,
    now: Time,
) -> Vec<(RecordKey, Option<ListedRecord>)> {
    let of_row = |columns: ListedColumns| {
        let key = RecordKey::from_bytes(columns.0.as_slice().try_into().ok()?);
        let record = listed_record(key, columns, now).unwrap_or_else(|error| {
            warn_unreadable(&key, &error);
            None
        });
        Some((key, record))
    };
    rows.into_iter().filter_map(of_row).collect()
}

fn listed_record(
    key: RecordKey,
    columns: ListedColumns,
    now: Time,
) -> Result<Option<ListedRecord>, Unreadable> {
    let (_, state, attempt, created_at, lease_until, expires_at, operation, label) = columns;
    if Time(expires_at) <= now {
        return Ok(None);
    }
    let lease_left = Time(lease_until).since(now);
    let (status, lease_left) = match state.as_str() {
        "running" if lease_left.is_zero() => (RecordStatus::Abandoned, Duration::ZERO),
        "running" => (RecordStatus::InFlight, lease_left),
        "completed" => (RecordStatus::Completed, Duration::ZERO),
        _ => return Err(Unreadable::State(state)),
    };
    Ok(Some(ListedRecord {
        attempt: u32::try_from(attempt).map_err(|_| Unreadable::Column("attempt"))?,
        label: label.map(Arc::from),
        age: now.since(Time(created_at)),
        lease_left,
        expires_in: Time(expires_at).since(now),
        ..ListedRecord::new(key, status, operation.into())
    }))
}

pub(super) async fn fetch(
    connection: &mut SqliteConnection,
    read: SqlStr,
    key: &RecordKey,
) -> Result<Option<Columns>, sqlx::Error> {
    let query = sqlx::query_as(read).bind(key.as_bytes().as_slice());
    query.fetch_optional(connection).await
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
    let key: Vec<u8> = row.try_get("key")?;
    let key = key.try_into();
    let key = key.map_err(|_| sqlx::Error::Decode("a key is 32 bytes".into()))?;
    Ok(RecordKey::from_bytes(key))
}

/// A record that is alive at `now`.
pub(super) struct Row {
    fingerprint: Fingerprint,
    /// None once its owner has abandoned the claim.
    token: Option<Token>,
    attempt: u32,
    created_at: Time,
    lease_until: Time,
    expires_at: Time,
    state: State,
    /// If it was asked for.
    operation: Option<String>,
    /// If it was asked for and there is some.
    progress: Option<Vec<u8>>,
    label: Option<String>,
    now: Time,
}

enum State {
    Running,
    /// With the response as it was encoded: only a caller that wants it decodes it.
    Completed(Vec<u8>),
}

#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("column `{0}` has a value that no release has written")]
    Column(&'static str),
    #[error("state is {0:?}, this release knows `running` and `completed`")]
    State(String),
}

impl Row {
    /// `None` when the record has expired.
    pub(super) fn decode(columns: Columns, now: Time) -> Result<Option<Self>, StoreError> {
        let expires_at = Time(columns.6);
        if expires_at <= now {
            return Ok(None);
        }
        let row = Self::alive(columns, now).map_err(|cause| corrupt(NAME, cause))?;
        Ok(Some(row))
    }

    fn alive(columns: Columns, now: Time) -> Result<Self, Unreadable> {
        let (request_hash, token, state, attempt, created_at, lease_until, expires_at, ..) =
            columns;
        let (.., response, operation, progress, label) = columns;
        let wrong = Unreadable::Column;
        let token = token.map(|token| token.try_into().map(Token::from_bytes));
        let fingerprint = request_hash.try_into().map_err(|_| wrong("request_hash"))?;
        let attempt = u32::try_from(attempt).ok().filter(|attempt| *attempt > 0);
        let state = match (state.as_str(), response) {
            ("running", _) => State::Running,
            ("completed", Some(response)) => State::Completed(response),
            ("completed", None) => return Err(wrong("response")),
            _ => return Err(Unreadable::State(state)),
        };
        Ok(Self {
            fingerprint: Fingerprint::from_bytes(fingerprint),
            token: token.transpose().map_err(|_| wrong("token"))?,
            attempt: attempt.ok_or(wrong("attempt"))?,
            created_at: Time(created_at),
            lease_until: Time(lease_until),
            expires_at: Time(expires_at),
            state,
            operation,
            progress,
            label,
            now,
        })
    }

    /// What the record says to a claim that is not to write: all but the first and the sixth step of
    /// [`Store::claim`](crate::store::Store::claim).
    pub(super) fn answer(
        &self,
        fingerprint: &Fingerprint,
        token: Token,
    ) -> Result<Claim, StoreError> {
        let (attempt, age) = (self.attempt, self.age());
        if self.fingerprint != *fingerprint {
            return Ok(Claim::Mismatch);
        }
        Ok(match &self.state {
            State::Completed(response) => Claim::Completed(decoded(response)?),
            State::Running if self.token == Some(token) => {
                Claim::Acquired(Acquired { attempt, age })
            }
            State::Running if self.now < self.lease_until => Claim::InFlight {
                lease_left: self.lease_until.since(self.now),
            },
            State::Running => Claim::Abandoned { attempt, age },
        })
    }

    /// What became of a completion that has written nothing.
    pub(super) fn completion(&self, owner: &Owner) -> Completion {
        match self.state {
            State::Completed(_) if self.token == Some(owner.token) => Completion::AlreadyCompleted,
            _ => Completion::Lost,
        }
    }

    pub(super) fn record(self) -> Result<Record, StoreError> {
        let state = match &self.state {
            State::Completed(response) => RecordState::Completed(decoded(response)?),
            State::Running if self.now < self.lease_until => RecordState::Running {
                lease_left: self.lease_until.since(self.now),
            },
            State::Running => RecordState::Abandoned,
        };
        Ok(Record {
            fingerprint: self.fingerprint,
            operation: self.operation.as_deref().unwrap_or_default().into(),
            label: self.label.as_deref().map(Arc::from),
            attempt: self.attempt,
            age: self.age(),
            expires_in: self.expires_at.since(self.now),
            state,
            progress: self.progress.map(Bytes::from).unwrap_or_default(),
        })
    }

    fn age(&self) -> Duration {
        self.now.since(self.created_at)
    }
}

fn decoded(response: &[u8]) -> Result<Arc<StoredResponse>, StoreError> {
    match StoredResponse::decode(response) {
        Ok(response) => Ok(Arc::new(response)),
        Err(cause) => Err(corrupt(NAME, cause)),
    }
}
