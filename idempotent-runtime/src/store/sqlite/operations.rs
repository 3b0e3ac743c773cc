//! What the writer does.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::sqlite::SqliteArguments;
use sqlx::{SqlStr, Sqlite};

use super::NAME;
use super::batch::Plain;
use super::row::{Row, Time, fetch};
use super::session::Session;
use super::writer::{Failure, Operation};
use crate::key::RecordKey;
use crate::record::{Owner, Record};
use crate::store::sql::corrupt;
use crate::store::{Claim, ClaimRequest, Completion, Progress, Release, Renewal};

pub(super) struct TryClaim(pub(super) ClaimRequest);

#[async_trait]
impl Operation for TryClaim {
    /// With the key, if the claim was taken over.
    type Output = (Claim, Option<RecordKey>);

    async fn run(self, session: &mut Session) -> Result<Self::Output, Failure> {
        let (request, now) = (&self.0, Time::now());
        let key = request.owner.key;
        let written: Option<(i64, i64)> = sqlx::query_as(session.statements.claim.clone())
            .bind(key.as_bytes().as_slice())
            .bind(request.fingerprint.as_bytes().as_slice())
            .bind(request.owner.token.as_bytes().as_slice())
            .bind(now.0)
            .bind(now.after(request.lease).0)
            .bind(now.after(request.ttl).0)
            .bind(request.take_over.map(i64::from))
            .fetch_optional(&mut session.connection)
            .await?;
        if let Some((attempt, created_at)) = written {
            let attempt = u32::try_from(attempt).map_err(|cause| corrupt(NAME, cause))?;
            let age = now.since(Time(created_at));
            let claim = Claim::Acquired { attempt, age };
            return Ok((claim, (attempt > 1).then_some(key)));
        }
        // Nothing was written, so it is there and alive, at this `now` and under this lock.
        let gone = || corrupt(NAME, "a record is neither there nor absent");
        let read = session.statements.read.clone();
        let row = find(session, read, &key, now).await?.ok_or_else(gone)?;
        Ok((row.answer(request)?, None))
    }

    fn plain(&self) -> Option<Plain<'_>> {
        Plain::claim(&self.0)
    }

    fn written(&self) -> Option<Self::Output> {
        let (attempt, age) = (1, Duration::ZERO);
        Some((Claim::Acquired { attempt, age }, None))
    }

    fn changed((_, taken_over): &Self::Output) -> Option<RecordKey> {
        *taken_over
    }
}

pub(super) struct Renew(pub(super) Vec<Renewal>);

#[async_trait]
impl Operation for Renew {
    type Output = Vec<Owner>;

    async fn run(self, session: &mut Session) -> Result<Vec<Owner>, Failure> {
        let mut lost = Vec::new();
        for Renewal { owner, lease } in self.0 {
            let now = Time::now();
            let renew = of_owner(&session.statements.renew, &owner, now).bind(now.after(lease).0);
            let renewed = renew.execute(&mut session.connection).await?;
            if renewed.rows_affected() == 0 {
                lost.push(owner);
            }
        }
        Ok(lost)
    }
}

pub(super) struct SaveProgress {
    pub(super) owner: Owner,
    pub(super) progress: Bytes,
}

#[async_trait]
impl Operation for SaveProgress {
    type Output = Progress;

    async fn run(self, session: &mut Session) -> Result<Progress, Failure> {
        let save = of_owner(&session.statements.save_progress, &self.owner, Time::now());
        let saved = save
            .bind(self.progress.to_vec())
            .execute(&mut session.connection)
            .await?;
        Ok(match saved.rows_affected() {
            0 => Progress::Lost,
            _ => Progress::Saved,
        })
    }
}

pub(super) struct Complete {
    pub(super) owner: Owner,
    pub(super) status: u16,
    pub(super) response: Vec<u8>,
}

#[async_trait]
impl Operation for Complete {
    type Output = (Completion, RecordKey);

    async fn run(self, session: &mut Session) -> Result<Self::Output, Failure> {
        let (key, now) = (self.owner.key, Time::now());
        let completed = of_owner(&session.statements.complete, &self.owner, now)
            .bind(self.status)
            .bind(self.response)
            .execute(&mut session.connection)
            .await?;
        if completed.rows_affected() > 0 {
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

    fn changed((completion, key): &Self::Output) -> Option<RecordKey> {
        (*completion == Completion::Stored).then_some(*key)
    }
}

pub(super) struct Free(pub(super) Owner);

#[async_trait]
impl Operation for Free {
    type Output = (Release, RecordKey);

    async fn run(self, session: &mut Session) -> Result<Self::Output, Failure> {
        let release = of_owner(&session.statements.release, &self.0, Time::now());
        let released = release.execute(&mut session.connection).await?;
        let release = match released.rows_affected() {
            0 => Release::Lost,
            _ => Release::Released,
        };
        Ok((release, self.0.key))
    }

    fn changed((release, key): &Self::Output) -> Option<RecordKey> {
        (*release == Release::Released).then_some(*key)
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

    fn changed(removed: &Self::Output) -> Option<RecordKey> {
        *removed
    }
}

pub(super) struct Purge {
    pub(super) limit: usize,
}

#[async_trait]
impl Operation for Purge {
    type Output = usize;

    async fn run(self, session: &mut Session) -> Result<usize, Failure> {
        let purged = sqlx::query(session.statements.purge.clone())
            .bind(Time::now().0)
            .bind(i64::try_from(self.limit).unwrap_or(i64::MAX))
            .execute(&mut session.connection)
            .await?;
        Ok(usize::try_from(purged.rows_affected()).unwrap_or(usize::MAX))
    }
}

/// The statement with its first three parameters: key, token, now.
fn of_owner(
    statement: &SqlStr,
    owner: &Owner,
    now: Time,
) -> sqlx::query::Query<'static, Sqlite, SqliteArguments> {
    sqlx::query(statement.clone())
        .bind(owner.key.as_bytes().to_vec())
        .bind(owner.token.as_bytes().to_vec())
        .bind(now.0)
}

async fn find(
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
