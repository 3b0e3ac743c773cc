//! A store, and points in a request's life, at which the process is killed.

use std::process;
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use idempotent_runtime::store::{
    Claim, ClaimRequest, Completion, Progress, Purged, Release, Renewal, Renewed, Store,
    StoreError, Subscription, Transactor,
};
use idempotent_runtime::{Owner, Record, RecordKey, StoredResponse};

use super::crashing_transactions::crashing;
use super::workspace::signal;

/// Where a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    AfterClaim,
    BeforeEffect,
    AfterEffect,
    BeforeComplete,
    AfterComplete,
    /// In a transaction: it is begun, and the handler has not been called.
    AfterBegin,
    BeforeRecord,
    /// The record is written, and COMMIT is not.
    AtCommit,
    AfterCommit,
    /// Of a handler that works in steps: the result of the step is kept.
    AfterStep1,
    AfterStep2,
    AfterStep3,
}

impl Point {
    /// The points of a handler without a transaction.
    pub const ALL: [Self; 5] = [
        Self::AfterClaim,
        Self::BeforeEffect,
        Self::AfterEffect,
        Self::BeforeComplete,
        Self::AfterComplete,
    ];

    /// The points of a handler in a transaction, in order.
    pub const IN_TRANSACTION: [Self; 6] = [
        Self::AfterBegin,
        Self::BeforeEffect,
        Self::AfterEffect,
        Self::BeforeRecord,
        Self::AtCommit,
        Self::AfterCommit,
    ];

    /// The points of a handler that works in steps, in order.
    pub const IN_STEPS: [Self; 3] = [Self::AfterStep1, Self::AfterStep2, Self::AfterStep3];

    /// Dies here, if this is where.
    pub fn reached(self, chosen: Option<Self>) {
        if chosen != Some(self) {
            return;
        }
        signal("KILL", process::id());
        loop {
            thread::park();
        }
    }
}

impl FromStr for Point {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let points = Self::ALL.into_iter().chain(Self::IN_TRANSACTION);
        let mut points = points.chain(Self::IN_STEPS);
        points.find(|point| format!("{point:?}") == name).ok_or(())
    }
}

/// The store behind it, and death before or after some of its calls.
#[derive(Debug)]
pub struct Crashing {
    pub inner: Arc<dyn Store>,
    pub at: Option<Point>,
}

#[async_trait]
impl Store for Crashing {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        let claim = self.inner.claim(request).await?;
        if matches!(claim, Claim::Acquired { .. }) {
            Point::AfterClaim.reached(self.at);
        }
        Ok(claim)
    }

    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        self.inner.renew(renewals).await
    }

    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        self.inner.save_progress(owner, offset, bytes).await
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        Point::BeforeComplete.reached(self.at);
        let completion = self.inner.complete(owner, response, ttl).await?;
        Point::AfterComplete.reached(self.at);
        Ok(completion)
    }

    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.inner.release(owners).await
    }

    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.inner.abandon(owners).await
    }

    async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.inner.give_grace(key, attempt, grace, retention).await
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.inner.get(key).await
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        self.inner.remove(key).await
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        self.inner.purge_expired(limit).await
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        self.inner.subscribe(key)
    }

    fn transactor(&self) -> Option<Transactor> {
        crashing(&self.inner.transactor()?, self.at)
    }
}
