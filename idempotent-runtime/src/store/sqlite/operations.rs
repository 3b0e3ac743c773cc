//! What the writer does besides claims and completions.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::SqlStr;

use super::error::{NAME, Undone};
use super::job::{Urgency, WriteOperation};
use super::row::{self, fetch, record};
use super::session::WriteSession;
use super::statements::of_owner;
use super::time::Time;
use crate::key::RecordKey;
use crate::record::{Owner, Record};
use crate::store::listing::Looked;
use crate::store::sql::corrupt;
use crate::store::waiters::Waiters;
use crate::store::{Progress, Purged, PurgedClaim, StoreError};

pub(super) struct SaveProgress {
    pub(super) owner: Owner,
    pub(super) offset: usize,
    pub(super) bytes: Bytes,
}

#[async_trait]
impl WriteOperation for SaveProgress {
    type Output = Progress;

    const URGENCY: Urgency = Urgency::OfHolder;

    async fn run(self, session: &mut WriteSession) -> Result<Progress, Undone> {
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

/// Reading, where there is no connection for that alone.
pub(super) struct Get(pub(super) RecordKey);

#[async_trait]
impl WriteOperation for Get {
    type Output = Option<Record>;

    async fn run(self, session: &mut WriteSession) -> Result<Self::Output, Undone> {
        let get = session.statements.get.clone();
        let now = Time::now();
        let columns = fetch(&mut session.connection, get, &self.0).await?;
        Ok(record(columns, now)?)
    }
}

/// Listing, where there is no connection for reading alone.
pub(super) struct List {
    pub(super) list: SqlStr,
    pub(super) after: RecordKey,
}

#[async_trait]
impl WriteOperation for List {
    type Output = Vec<Looked<StoreError>>;

    async fn run(self, session: &mut WriteSession) -> Result<Self::Output, Undone> {
        Ok(row::list(&mut session.connection, self.list, &self.after).await?)
    }
}

pub(super) struct GiveGrace {
    pub(super) key: RecordKey,
    pub(super) attempt: u32,
    pub(super) grace: Duration,
    pub(super) retention: Duration,
}

#[async_trait]
impl WriteOperation for GiveGrace {
    type Output = bool;

    async fn run(self, session: &mut WriteSession) -> Result<bool, Undone> {
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
impl WriteOperation for Remove {
    type Output = Option<RecordKey>;

    async fn run(self, session: &mut WriteSession) -> Result<Self::Output, Undone> {
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
impl WriteOperation for Purge {
    type Output = Purged;

    async fn run(self, session: &mut WriteSession) -> Result<Purged, Undone> {
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
