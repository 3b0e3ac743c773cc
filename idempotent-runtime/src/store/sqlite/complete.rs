//! Completions.

use std::time::Duration;

use async_trait::async_trait;

use super::error::Undone;
use super::job::{Batchable, Kind, Urgency, WriteOperation};
use super::row::{alive, fetch};
use super::session::WriteSession;
use super::statements::{Statement, of_owner};
use super::time::Time;
use crate::key::RecordKey;
use crate::record::Owner;
use crate::store::Completion;
use crate::store::row::Row;
use crate::store::waiters::Waiters;

pub(super) struct Complete {
    pub(super) owner: Owner,
    pub(super) status: u16,
    pub(super) response: Vec<u8>,
    pub(super) ttl: Duration,
}

/// Longer responses are stored one at a time: SQLite makes a copy of those of a statement.
const LONGEST: usize = 16 * 1024;

/// How much later than it expires a record may be purged: by less than that, the time of the purge is
/// left as it is.
const LEAST_SLACK: Duration = Duration::from_secs(5 * 60);

impl Complete {
    /// Its expiry, and the latest time to purge it.
    fn expiry(&self, now: Time) -> (Time, Time) {
        let expires_at = now.after(self.ttl);
        (expires_at, expires_at.after(LEAST_SLACK.max(self.ttl / 4)))
    }

    /// Whether a copy of the response costs less than to write the index as well.
    fn is_short(&self) -> bool {
        self.response.len() <= LONGEST
    }

    async fn store(&self, session: &mut WriteSession, now: Time) -> sqlx::Result<bool> {
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
        session: &mut WriteSession,
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
impl WriteOperation for Complete {
    type Output = (Completion, RecordKey);

    const URGENCY: Urgency = Urgency::OfHolder;

    async fn run(mut self, session: &mut WriteSession) -> Result<Self::Output, Undone> {
        let (key, now) = (self.owner.key, Time::now());
        let is_stored = (self.is_short() && self.store(session, now).await?)
            || self.store_and_reschedule(session, now).await?;
        if is_stored {
            return Ok((Completion::Stored, key));
        }
        let read = session.statements.read.clone();
        let row = alive(fetch(&mut session.connection, read, &key).await?, now)?;
        let is_done = |row: &Row<_>| row.response.is_some() && row.token == Some(self.owner.token);
        Ok(match row.as_ref().is_some_and(is_done) {
            true => (Completion::AlreadyCompleted, key),
            false => (Completion::Lost, key),
        })
    }

    fn batchable(&self) -> Option<&dyn Batchable> {
        self.is_short().then_some(self)
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

impl Batchable for Complete {
    fn kind(&self) -> Kind {
        Kind::Complete
    }

    fn key(&self) -> RecordKey {
        self.owner.key
    }

    fn bind(&self, statement: Statement, now: Time) -> Statement {
        let (expires_at, purge_at_most) = self.expiry(now);
        statement
            .bind(self.owner.key.as_bytes().to_vec())
            .bind(self.owner.token.as_bytes().to_vec())
            .bind(now.0)
            .bind(self.status)
            .bind(self.response.clone())
            .bind(expires_at.0)
            .bind(purge_at_most.0)
    }
}
