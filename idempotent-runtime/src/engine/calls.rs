//! Store calls. Each ends: in time, and also when the store panics, which is an error like any other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::recoveries::Recoveries;
use crate::key::RecordKey;
use crate::observer::{Event, Observers, StoreCall};
use crate::record::{Owner, Record, StoredResponse};
use crate::store::backend::Backend;
use crate::store::replay_cache::registry::Removal;
use crate::store::{
    Claim, ClaimRequest, Completion, ListCursor, ListFilter, Listing, Progress, Purged, Release,
    Renewal, Renewed, Store, StoreError, StoreErrorKind,
};
use crate::unwind::catch_unwind;

/// How long one purge may take. It is not part of a request, and may be slower than one.
const PURGE_LIMIT: Duration = Duration::from_secs(30);

/// A store whose operations all end, one way or the other, and are observed. Clones share the store.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    backend: Backend,
    limit: Duration,
    observers: Observers,
    recoveries: Recoveries,
    /// When a claim last got no reply.
    unanswered_at: Arc<Mutex<Option<Instant>>>,
}

impl Calls {
    pub(super) fn new(backend: Backend, limit: Duration, observers: Observers) -> Self {
        Self {
            backend,
            limit,
            observers,
            recoveries: Recoveries::default(),
            unanswered_at: Arc::default(),
        }
    }

    /// Not by its pointer, which is a store too: that would be a box more for each operation. It is called within the future that
    /// is guarded: a store can panic before it has returned one.
    pub(super) fn store(&self) -> &dyn Store {
        &**self.backend.store()
    }

    /// The store, if something can be had from it without waiting.
    pub(super) fn backend(&self) -> &Backend {
        &self.backend
    }

    pub(super) fn observers(&self) -> &Observers {
        &self.observers
    }

    /// What is being decided about records here, of which the store knows nothing.
    pub(super) fn recoveries(&self) -> &Recoveries {
        &self.recoveries
    }

    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    pub(super) fn error(&self, kind: StoreErrorKind) -> StoreError {
        StoreError::new(self.store().name(), kind)
    }

    pub(super) async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        let call = async { self.store().claim(request).await };
        let claim = self.timed(StoreCall::Claim, call).await;
        if claim.as_ref().is_err_and(StoreError::may_have_happened) {
            *lock(&self.unanswered_at) = Some(Instant::now());
        }
        claim
    }

    /// When a claim last got no reply: a store that holds one up may hold up those before it.
    pub(super) fn unanswered_at(&self) -> Option<Instant> {
        *lock(&self.unanswered_at)
    }

    pub(super) async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.timed(StoreCall::Get, async { self.store().get(key).await })
            .await
    }

    pub(super) async fn list(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        let call = async { self.store().list(filter, cursor, limit).await };
        self.within(PURGE_LIMIT, StoreCall::List, call).await
    }

    pub(super) async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let call = async {
            self.store()
                .give_grace(key, attempt, grace, retention)
                .await
        };
        self.timed(StoreCall::GiveGrace, call).await
    }

    pub(super) async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        // Another handle of this process may have a cache, even if this one has none.
        let _removal = Removal(key);
        self.timed(StoreCall::Remove, async { self.store().remove(key).await })
            .await
    }

    pub(super) async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        let call = async { self.store().save_progress(owner, offset, bytes).await };
        self.timed(StoreCall::SaveProgress, call).await
    }

    pub(super) async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        let call = async { self.store().complete(owner, response, ttl).await };
        self.timed(StoreCall::Complete, call).await
    }

    pub(super) async fn purge(&self, limit: usize) -> Result<Purged, StoreError> {
        let call = async { self.store().purge_expired(limit).await };
        self.within(PURGE_LIMIT, StoreCall::PurgeExpired, call)
            .await
    }

    pub(super) async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        self.renew_within(self.limit, renewals).await
    }

    /// Within less than what any other call may take.
    pub(super) async fn renew_within(
        &self,
        limit: Duration,
        renewals: &[Renewal],
    ) -> Vec<Result<Renewed, StoreError>> {
        let call = async { self.store().renew(renewals).await };
        let limit = limit.min(self.limit);
        self.each(limit, StoreCall::Renew, renewals.len(), call)
            .await
    }

    pub(super) async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        let call = async { self.store().release(owners).await };
        self.each(self.limit, StoreCall::Release, owners.len(), call)
            .await
    }

    pub(super) async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        let call = async { self.store().abandon(owners).await };
        self.each(self.limit, StoreCall::Abandon, owners.len(), call)
            .await
    }

    /// Bounds a store call in time, and to its own panic.
    pub(super) async fn timed<T>(
        &self,
        name: StoreCall,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.within(self.limit, name, call).await
    }

    /// As [`timed`](Self::timed), within another time.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        name: StoreCall,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begun = self.begun();
        let result = match timeout(limit, catch_unwind(call)).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(self.panicked(name)),
            Err(_) => Err(self.error(StoreErrorKind::TimedOut)),
        };
        self.ended(name, begun, result.as_ref().err());
        result
    }

    /// What it was asked for may have happened.
    fn panicked(&self, call: StoreCall) -> StoreError {
        // The panic hook has printed the message.
        tracing::error!(store = self.store().name(), ?call, "the store panicked");
        self.error(StoreErrorKind::Unavailable)
    }

    /// The time, if anything wants to know how long a call takes.
    pub(super) fn begun(&self) -> Option<Instant> {
        (!self.observers.is_none()).then(Instant::now)
    }

    /// Tells of a call.
    pub(super) fn ended(
        &self,
        call: StoreCall,
        begun: Option<Instant>,
        error: Option<&StoreError>,
    ) {
        if let Some(begun) = begun {
            self.observers.tell(|| Event::StoreCall {
                store: self.store().name(),
                call,
                elapsed: begun.elapsed(),
                error: error.map(StoreError::kind),
            });
        }
    }

    /// The same for a batch: as many results as there are items, whatever the store returns.
    async fn each<T: Clone>(
        &self,
        limit: Duration,
        name: StoreCall,
        items: usize,
        call: impl Future<Output = Vec<Result<T, StoreError>>>,
    ) -> Vec<Result<T, StoreError>> {
        let begun = self.begun();
        let results = match timeout(limit, catch_unwind(call)).await {
            Ok(Ok(mut results)) => {
                results.resize(items, Err(self.error(StoreErrorKind::Unavailable)));
                results
            }
            Ok(Err(_)) => vec![Err(self.panicked(name)); items],
            Err(_) => vec![Err(self.error(StoreErrorKind::TimedOut)); items],
        };
        let failed = results.iter().find_map(|result| result.as_ref().err());
        self.ended(name, begun, failed);
        results
    }
}

/// Every change under these locks is one insert, one remove or one assignment, so a panic leaves
/// nothing half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
