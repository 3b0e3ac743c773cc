//! A store whose looks are watched, and can be made blind.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use idempotent_runtime::store::{
    Claim, ClaimRequest, Completion, Progress, Purged, Release, Renewal, Renewed, Store,
    StoreError, Subscription, Transactor,
};
use idempotent_runtime::{Owner, Record, RecordKey, StoredResponse};

/// The looks at a record.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    pub(crate) count: AtomicUsize,
    /// How often the store was asked for notifications.
    pub(crate) asked_for_notifications: AtomicUsize,
    /// Whether a look sees what the one before it saw, until there is a notification.
    pub(crate) are_blind: AtomicBool,
    seen: Mutex<Option<Record>>,
}

impl Looks {
    pub(crate) fn through(self: &Arc<Self>, store: impl Store) -> Watched {
        Watched {
            store: Arc::new(store),
            looks: Arc::clone(self),
        }
    }
}

/// The store behind it.
#[derive(Debug)]
pub(crate) struct Watched {
    store: Arc<dyn Store>,
    looks: Arc<Looks>,
}

#[async_trait]
impl Store for Watched {
    fn name(&self) -> &'static str {
        self.store.name()
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        self.store.claim(request).await
    }

    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        self.store.renew(renewals).await
    }

    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        self.store.save_progress(owner, offset, bytes).await
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        self.store.complete(owner, response, ttl).await
    }

    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.store.release(owners).await
    }

    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.store.abandon(owners).await
    }

    async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.store.give_grace(key, attempt, grace, retention).await
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.looks.count.fetch_add(1, Ordering::SeqCst);
        if self.looks.are_blind.load(Ordering::SeqCst) {
            return Ok(self.looks.seen.lock().unwrap().clone());
        }
        let record = self.store.get(key).await?;
        self.looks.seen.lock().unwrap().clone_from(&record);
        Ok(record)
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        self.store.remove(key).await
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        self.store.purge_expired(limit).await
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        self.looks
            .asked_for_notifications
            .fetch_add(1, Ordering::SeqCst);
        let (notification, looks) = (self.store.subscribe(key), Arc::clone(&self.looks));
        Subscription::best_effort(async move {
            notification.changed().await;
            looks.are_blind.store(false, Ordering::SeqCst);
        })
    }

    fn transactor(&self) -> Option<Transactor> {
        self.store.transactor()
    }
}
