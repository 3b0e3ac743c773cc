//! Store calls, each bounded in time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::key::RecordKey;
use crate::record::{Owner, Record, StoredResponse};
use crate::store::backend::Backend;
use crate::store::replay_cache::registry::Removal;
use crate::store::{
    Claim, ClaimRequest, Completion, ListCursor, ListFilter, Listing, Progress, Purged, Release,
    Renewal, Renewed, Store, StoreError, StoreErrorKind,
};

/// How long one purge may take. It is not part of a request, and may be slower than one.
const PURGE_LIMIT: Duration = Duration::from_secs(30);

/// A store whose operations all end, one way or the other. Clones share the store.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    backend: Backend,
    limit: Duration,
}

impl Calls {
    pub(super) fn new(backend: Backend, limit: Duration) -> Self {
        Self { backend, limit }
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        self.backend.store()
    }

    /// The store, if something can be had from it without waiting.
    pub(super) fn backend(&self) -> &Backend {
        &self.backend
    }

    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    pub(super) fn error(&self, kind: StoreErrorKind) -> StoreError {
        StoreError::new(self.store().name(), kind)
    }

    pub(super) async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        self.timed(self.store().claim(request)).await
    }

    pub(super) async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.timed(self.store().get(key)).await
    }

    pub(super) async fn list(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        match timeout(PURGE_LIMIT, self.store().list(filter, cursor, limit)).await {
            Ok(listing) => listing,
            Err(_) => Err(self.error(StoreErrorKind::TimedOut)),
        }
    }

    pub(super) async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.timed(self.store().give_grace(key, attempt, grace, retention))
            .await
    }

    pub(super) async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        // Another handle of this process may have a cache, even if this one has none.
        let _removal = Removal(key);
        self.timed(self.store().remove(key)).await
    }

    pub(super) async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        self.timed(self.store().save_progress(owner, offset, bytes))
            .await
    }

    pub(super) async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        self.timed(self.store().complete(owner, response, ttl))
            .await
    }

    pub(super) async fn purge(&self, limit: usize) -> Result<Purged, StoreError> {
        match timeout(PURGE_LIMIT, self.store().purge_expired(limit)).await {
            Ok(purged) => purged,
            Err(_) => Err(self.error(StoreErrorKind::TimedOut)),
        }
    }

    pub(super) async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        self.each(renewals.len(), self.store().renew(renewals))
            .await
    }

    pub(super) async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.each(owners.len(), self.store().release(owners)).await
    }

    pub(super) async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.each(owners.len(), self.store().abandon(owners)).await
    }

    /// Bounds a store call in time.
    pub(super) async fn timed<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match timeout(self.limit, call).await {
            Ok(result) => result,
            Err(_) => Err(self.error(StoreErrorKind::TimedOut)),
        }
    }

    /// The same for a batch: as many results as there are items, whatever the store returns.
    async fn each<T: Clone>(
        &self,
        items: usize,
        call: impl Future<Output = Vec<Result<T, StoreError>>>,
    ) -> Vec<Result<T, StoreError>> {
        match timeout(self.limit, call).await {
            Ok(mut results) => {
                results.resize(items, Err(self.error(StoreErrorKind::Unavailable)));
                results
            }
            Err(_) => vec![Err(self.error(StoreErrorKind::TimedOut)); items],
        }
    }
}

/// Every change under these locks is one insert, one remove or one assignment, so a panic leaves
/// nothing half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
