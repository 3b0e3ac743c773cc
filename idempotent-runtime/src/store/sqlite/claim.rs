//! Claims.

use std::time::Duration;

use async_trait::async_trait;

use super::error::{NAME, Undone};
use super::job::{Batchable, Kind, WriteOperation};
use super::row::{alive, fetch};
use super::session::WriteSession;
use super::statements::Statement;
use super::time::Time;
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::Owner;
use crate::store::sql::corrupt;
use crate::store::waiters::Waiters;
use crate::store::{Acquired, Claim, ClaimRequest};

pub(super) struct TryClaim {
    owner: Owner,
    fingerprint: Fingerprint,
    operation: String,
    label: Option<String>,
    lease: Duration,
    retention: Duration,
    progress: Option<Vec<u8>>,
    /// After its lease, when the sweeper is to look at it: a guess.
    purge_after: Duration,
    take_over: Option<u32>,
}

/// The times of a new claim.
struct Times {
    now: Time,
    lease_until: Time,
    expires_at: Time,
    purge_at: Time,
}

impl TryClaim {
    /// A claim of a record that is expected to live for `expected_ttl` once it is completed.
    pub(super) fn new(request: &ClaimRequest<'_>, expected_ttl: Duration) -> Self {
        Self {
            owner: request.owner,
            fingerprint: request.fingerprint,
            operation: request.operation.to_owned(),
            label: request.label.map(str::to_owned),
            lease: request.lease,
            retention: request.retention,
            progress: request.first_progress().map(<[u8]>::to_vec),
            purge_after: request.retention.min(expected_ttl),
            take_over: request.take_over,
        }
    }

    fn times(&self, now: Time) -> Times {
        let lease_until = now.after(self.lease);
        Times {
            now,
            lease_until,
            expires_at: lease_until.after(self.retention),
            purge_at: lease_until.after(self.purge_after),
        }
    }
}

#[async_trait]
impl WriteOperation for TryClaim {
    /// With the key, if the claim was taken over.
    type Output = (Claim, Option<RecordKey>);

    async fn run(self, session: &mut WriteSession) -> Result<Self::Output, Undone> {
        let (key, times) = (self.owner.key, self.times(Time::now()));
        let now = times.now;
        let written: Option<(i64, i64)> = sqlx::query_as(session.statements.claim.clone())
            .bind(key.as_bytes().as_slice())
            .bind(self.fingerprint.as_bytes().as_slice())
            .bind(self.owner.token.as_bytes().as_slice())
            .bind(self.operation)
            .bind(now.0)
            .bind(times.lease_until.0)
            .bind(times.expires_at.0)
            .bind(times.purge_at.0)
            .bind(self.take_over.map(i64::from))
            .bind(self.label)
            .bind(self.progress)
            .fetch_optional(&mut session.connection)
            .await?;
        if let Some((attempt, created_at)) = written {
            let attempt = u32::try_from(attempt).map_err(|cause| corrupt(NAME, cause))?;
            let age = now.since(Time(created_at));
            let claim = Claim::Acquired(Acquired { attempt, age });
            return Ok((claim, (attempt > 1).then_some(key)));
        }
        // Nothing was written, so it is there and alive, at this `now` and under this lock.
        let gone = || corrupt(NAME, "a record is neither there nor absent");
        let read = session.statements.read.clone();
        let row = alive(fetch(&mut session.connection, read, &key).await?, now)?;
        let claim = row.ok_or_else(gone)?;
        let claim = claim.claim(&self.fingerprint, self.owner.token);
        Ok((claim.map_err(|cause| corrupt(NAME, cause))?, None))
    }

    fn batchable(&self) -> Option<&dyn Batchable> {
        self.take_over.is_none().then_some(self)
    }

    fn written(&self) -> Option<Self::Output> {
        let (attempt, age) = (1, Duration::ZERO);
        Some((Claim::Acquired(Acquired { attempt, age }), None))
    }

    fn wake((_, taken_over): &Self::Output, waiters: &Waiters) {
        if let Some(key) = taken_over {
            waiters.wake(key);
        }
    }
}

impl Batchable for TryClaim {
    fn kind(&self) -> Kind {
        Kind::Claim
    }

    fn key(&self) -> RecordKey {
        self.owner.key
    }

    fn bind(&self, statement: Statement, now: Time) -> Statement {
        let times = self.times(now);
        statement
            .bind(self.owner.key.as_bytes().to_vec())
            .bind(self.fingerprint.as_bytes().to_vec())
            .bind(self.owner.token.as_bytes().to_vec())
            .bind(self.operation.clone())
            .bind(self.label.clone())
            .bind(self.progress.clone())
            .bind(now.0)
            .bind(times.lease_until.0)
            .bind(times.expires_at.0)
            .bind(times.purge_at.0)
    }
}
