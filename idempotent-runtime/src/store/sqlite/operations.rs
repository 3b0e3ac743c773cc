//! What the writer does, besides claims.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{SqlStr, Sqlite};

use super::NAME;
use super::batch::{LONGEST, Plain};
use super::queue::Urgency;
use super::row::{Row, Time, fetch, listed};
use super::session::Session;
use super::writer::{Failure, Operation};
use crate::key::RecordKey;
use crate::record::{Owner, Record};
use crate::store::listing::LOOK;
use crate::store::sql::corrupt;
use crate::store::waiters::Waiters;
use crate::store::{Completion, ListedRecord, Progress, Purged, PurgedClaim};

pub(super) struct SaveProgress {
    pub(super) owner: Owner,
    pub(super) offset: usize,
    pub(super) bytes: Bytes,
}

#[async_trait]
impl Operation for SaveProgress {
    type Output = Progress;

    const URGENCY: Urgency = Urgency::OfHolder;

    async fn run(self, session: &mut Session) -> Result<Progress, Failure> {
        let now = Time::now();
        let save = of_owner(session.statements.save_progress.clone(), &self.owner, now);
        let saved = save
            .bind(i64::try_from(self.offset).unwrap_or(i64::MAX))
            .bind(self.bytes.to_vec())
            .execute(&mut session.connection)
            .await?;
        if saved.rows_affected() > 0 {
            return Ok(Progress::Saved);
        }
        let progress_of = session.statements.progress_of.clone();
        let stored_bytes: Option<i64> = sqlx::query_scalar(progress_of)
            .bind(self.owner.key.as_bytes().as_slice())
            .bind(self.owner.token.as_bytes().as_slice())
            .bind(now.0)
            .fetch_optional(&mut session.connection)
            .await?;
        Ok(match stored_bytes {
            None => Progress::Lost,
            Some(bytes) => Progress::Behind {
                stored_bytes: usize::try_from(bytes).map_err(|cause| corrupt(NAME, cause))?,
            },
        })
    }
}

pub(super) struct Complete {
    pub(super) owner: Owner,
    pub(super) status: u16,
    pub(super) response: Vec<u8>,
    pub(super) ttl: Duration,
}

/// How much later than it expires a record may be purged: by less than that, the time of the purge is
/// left as it is.
const LEAST_SLACK: Duration = Duration::from_secs(5 * 60);

impl Complete {
    /// Its expiry, and the latest time to purge it.
    pub(super) fn expiry(&self, now: Time) -> (Time, Time) {
        let expires_at = now.after(self.ttl);
        (expires_at, expires_at.after(LEAST_SLACK.max(self.ttl / 4)))
    }

    /// Whether a copy of the response costs less than to write the index as well.
    pub(super) fn is_short(&self) -> bool {
        self.response.len() <= LONGEST
    }

    async fn store(&self, session: &mut Session, now: Time) -> sqlx::Result<bool> {
        let (expires_at, purge_at_most) = self.expiry(now);
        let complete = of_owner(session.statements.complete.clone(), &self.owner, now)
            .bind(self.status)
            .bind(self.response.clone())
            .bind(expires_at.0)
            .bind(purge_at_most.0);
        let completed = complete.execute(&mut session.connection).await?;
        Ok(completed.rows_affected() > 0)
    }

    async fn store_and_reschedule(
        &mut self,
        session: &mut Session,
        now: Time,
    ) -> sqlx::Result<bool> {
        let (expires_at, _) = self.expiry(now);
        let reschedule = session.statements.complete_and_reschedule.clone();
        let complete = of_owner(reschedule, &self.owner, now)
            .bind(self.status)
            .bind(std::mem::take(&mut self.response))
            .bind(expires_at.0);
        let completed = complete.execute(&mut session.connection).await?;
        Ok(completed.rows_affected() > 0)
    }
}

#[async_trait]
impl Operation for Complete {
    type Output = (Completion, RecordKey);

    const URGENCY: Urgency = Urgency::OfHolder;

    async fn run(mut self, session: &mut Session) -> Result<Self::Output, Failure> {
        let (key, now) = (self.owner.key, Time::now());
        let is_stored = (self.is_short() && self.store(session, now).await?)
            || self.store_and_reschedule(session, now).await?;
        if is_stored {
            return Ok((Completion::Stored, key));
        }
        let read = session.statements.read.clone();
        let row = find(session, read, &key, now).await?;
        let completion = row.map(|row| row.completion(&self.owner));
        Ok((completion.unwrap_or(Completion::Lost), key))
    }

    fn plain(&self) -> Option<Plain<'_>> {
        Plain::complete(self)
    }

    fn written(&self) -> Option<Self::Output> {
        Some((Completion::Stored, self.owner.key))
    }

    fn wake((completion, key): &Self::Output, waiters: &Waiters) {
        if *completion == Completion::Stored {
            waiters.wake(key);
        }
    }
}

/// Reading, where there is no connection for that alone.
pub(super) struct Get(pub(super) RecordKey);

#[async_trait]
impl Operation for Get {
    type Output = Option<Record>;

    async fn run(self, session: &mut Session) -> Result<Self::Output, Failure> {
        let get = session.statements.get.clone();
        let row = find(session, get, &self.0, Time::now()).await?;
        Ok(row.map(Row::record).transpose()?)
    }
}

/// Reading so many records after a key.
pub(super) struct List {
    pub(super) list: SqlStr,
    pub(super) after: RecordKey,
}

#[async_trait]
impl Operation for List {
    type Output = Vec<(RecordKey, Option<ListedRecord>)>;

    async fn run(self, session: &mut Session) -> Result<Self::Output, Failure> {
        let now = Time::now();
        let rows = sqlx::query_as(self.list)
            .bind(self.after.as_bytes().as_slice())
            .bind(LOOK as i64)
            .fetch_all(&mut session.connection)
            .await?;
        Ok(listed(rows, now))
    }
}

pub(super) struct GiveGrace {
    pub(super) key: RecordKey,
    pub(super) attempt: u32,
    pub(super) grace: Duration,
    pub(super) retention: Duration,
}

#[async_trait]
impl Operation for GiveGrace {
    type Output = bool;

    async fn run(self, session: &mut Session) -> Result<bool, Failure> {
        let now = Time::now();
        let lease_until = now.after(self.grace);
        let given = sqlx::query(session.statements.give_grace.clone())
            .bind(self.key.as_bytes().as_slice())
            .bind(self.attempt)
            .bind(now.0)
            .bind(lease_until.0)
            .bind(lease_until.after(self.retention).0)
            .execute(&mut session.connection)
            .await?;
        Ok(given.rows_affected() > 0)
    }
}

pub(super) struct Remove(pub(super) RecordKey);

#[async_trait]
impl Operation for Remove {
    type Output = Option<RecordKey>;

    async fn run(self, session: &mut Session) -> Result<Self::Output, Failure> {
        let removed = sqlx::query(session.statements.remove.clone())
            .bind(self.0.as_bytes().as_slice())
            .execute(&mut session.connection)
            .await?;
        Ok((removed.rows_affected() > 0).then_some(self.0))
    }

    fn wake(removed: &Self::Output, waiters: &Waiters) {
        if let Some(key) = removed {
            waiters.wake(key);
        }
    }
}

pub(super) struct Purge {
    pub(super) limit: usize,
}

#[async_trait]
impl Operation for Purge {
    type Output = Purged;

    async fn run(self, session: &mut Session) -> Result<Purged, Failure> {
        let now = Time::now();
        let limit = i64::try_from(self.limit).unwrap_or(i64::MAX);
        sqlx::query(session.statements.postpone.clone())
            .bind(now.0)
            .bind(limit)
            .execute(&mut session.connection)
            .await?;
        let gone: Vec<(Option<Vec<u8>>, Option<Vec<u8>>)> =
            sqlx::query_as(session.statements.purge.clone())
                .bind(now.0)
                .bind(limit)
                .fetch_all(&mut session.connection)
                .await?;
        let abandoned = |(key, operation): &(Option<Vec<u8>>, Option<Vec<u8>>)| {
            Some(PurgedClaim {
                key: RecordKey::from_bytes(key.as_deref()?.try_into().ok()?),
                operation: String::from_utf8_lossy(operation.as_deref()?).into(),
            })
        };
        Ok(Purged {
            records: gone.len(),
            abandoned: gone.iter().filter_map(abandoned).collect(),
        })
    }
}

/// The statement with its first three parameters: key, token, now.
pub(super) fn of_owner(
    statement: SqlStr,
    owner: &Owner,
    now: Time,
) -> Query<'static, Sqlite, SqliteArguments> {
    sqlx::query(statement)
        .bind(owner.key.as_bytes().to_vec())
        .bind(owner.token.as_bytes().to_vec())
        .bind(now.0)
}

pub(super) async fn find(
    session: &mut Session,
    read: SqlStr,
    key: &RecordKey,
    now: Time,
) -> Result<Option<Row>, Failure> {
    let columns = fetch(&mut session.connection, read, key).await?;
    Ok(columns
        .map(|columns| Row::decode(columns, now))
        .transpose()?
        .flatten())
}
