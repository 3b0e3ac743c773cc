//! A memory store by a clock of the test's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{
    Claim, ClaimRequest, Completion, InProcess, Progress, Purged, Release, Renewal, Renewed, Store,
    StoreError, Subscription, Transactor,
};
use idempotent_runtime::{Fingerprint, ManualClock, Owner, Record, RecordKey, StoredResponse};

/// The clock stands still unless the test moves it. Who has let a lease end is certainly dead: it gets no
/// grace, for which time would have to pass.
#[derive(Debug)]
pub struct CertainStore(MemoryStore);

impl CertainStore {
    pub fn new(clock: &Arc<ManualClock>) -> Self {
        let clock = Arc::clone(clock) as _;
        Self(MemoryStore::builder().clock(clock).build())
    }
}

#[async_trait]
impl Store for CertainStore {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn replays_from_memory(&self) -> bool {
        self.0.replays_from_memory()
    }

    fn in_process(&self) -> Option<&dyn InProcess> {
        self.0.in_process()
    }

    fn kept(&self, key: &RecordKey, fingerprint: &Fingerprint) -> Option<Arc<StoredResponse>> {
        self.0.kept(key, fingerprint)
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        self.0.claim(request).await
    }

    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        self.0.renew(renewals).await
    }

    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        self.0.save_progress(owner, offset, bytes).await
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        self.0.complete(owner, response, ttl).await
    }

    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.0.release(owners).await
    }

    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.0.abandon(owners).await
    }

    async fn give_grace(
        &self,
        _: &RecordKey,
        _: u32,
        _: Duration,
        _: Duration,
    ) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.0.get(key).await
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        self.0.remove(key).await
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        self.0.purge_expired(limit).await
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        self.0.subscribe(key)
    }

    fn transactor(&self) -> Option<Transactor> {
        self.0.transactor()
    }
}
