//! A store that asks the one inside for every claim three times, which is its right: a claim is
//! idempotent. With a replay cache inside, the third answer to what is completed comes from the cache.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use idempotent_runtime::store::{
    Claim, ClaimRequest, Completion, Progress, Purged, Release, Renewal, Renewed, Store,
    StoreError, Subscription, Transactor,
};
use idempotent_runtime::{Owner, Record, RecordKey, StoredResponse};

#[derive(Debug)]
pub(crate) struct InsistentStore<S>(pub(crate) S);

#[async_trait]
impl<S: Store> Store for InsistentStore<S> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        self.0.claim(request).await?;
        self.0.claim(request).await?;
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
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.0.give_grace(key, attempt, grace, retention).await
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
