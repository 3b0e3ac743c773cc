//! The replay cache: hot replays without a round trip.
//!
//! # The problem
//!
//! A client in trouble asks again and again, and every time the same bytes come from the store: a
//! round trip for an answer that cannot change any more. [`CachedStore`] stands in front of a store
//! and caches **completed records only**, which are immutable until they expire, in a few MiB of this
//! process's memory.
//!
//! # What it guarantees
//!
//! Every rule of [`Store`], because it can only say two things by itself: that a record is completed,
//! with its response, and that it is another request's. No request runs because of either. Whatever
//! makes a claim, writes or removes goes to the store.
//!
//! A record is cached by its second replay, and answered from here as of the third:
//!
//! | replay | what the store is asked |
//! | --- | --- |
//! | first | to claim, as without a cache |
//! | second | to read instead: the answer, and how long the record lives |
//! | from the third on | nothing, and a read again when [`max_age`](ReplayCache::max_age) is over |
//!
//! **A key is read once at a time**: a caller that asks meanwhile waits for the same answer, and after a second
//! reads itself. **While the store cannot be read, an older answer is given**
//! ([stale-if-error](https://www.rfc-editor.org/rfc/rfc5861)): the record is immutable, and lives on until
//! its expiry. The store is then asked once a second for each such key, and waited for no longer than a second. A record
//! that cannot be read for its own sake ([`is_about_item`](StoreError::is_about_item)) is an error.
//!
//! So a replay asks the store once at most, and a key that is claimed anew after its expiry one more
//! than without a cache, once. **An answer ends with its record's life**, by the store's own count of
//! it (`expires_in`, from the moment before it was asked): the store's clock decides, this process only
//! measures.
//!
//! # Caveats
//!
//! * **A removal by another process is seen late**, by [`max_age`](ReplayCache::max_age) (10 s) at
//!   most while the store can be read: an operator who frees a key through another process, or in the
//!   database, may see it replayed here for that long. [`Store::remove`] through any cache of this
//!   process is effective at once in all of them.
//! * Where this process's clock and the store's disagree about how long a while is, by drift, by a step
//!   of the server's clock, or because this machine was suspended meanwhile, an answer can outlive its
//!   record by as much, and by `max_age` at most while the store can be read. That is a replay too many
//!   and never a run too many.
//! * A replay in a transaction (`#[tx]`) is read in the database, as without a cache.
//! * The responses are in this process's memory, in the clear.
//!
//! # Using it
//!
//! [`Idempotency::builder`](crate::Idempotency::builder) and
//! [`connect`](crate::Idempotency::connect) put one in front of every store but the memory store, and but a [`CachedStore`] of the application's own.
//!
//! ```
//! use idempotent_runtime::Idempotency;
//! use idempotent_runtime::store::ReplayCache;
//! # use idempotent_runtime::store::Store;
//!
//! # fn example(store: impl Store + Clone) {
//! // More room, for large responses or many hot keys:
//! let cache = ReplayCache::new().max_bytes(64 * 1024 * 1024);
//! let idempotency = Idempotency::builder(store.clone()).replay_cache(cache).build();
//!
//! // None:
//! let idempotency = Idempotency::builder(store).replay_cache(None).build();
//! # }
//! ```

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use self::reading::{follow, lead};
use self::registry::Removal;
use self::shard::{Look, Outcome, Shard};
use super::shared::shared;
use super::{
    Claim, ClaimRequest, Completion, ListCursor, ListFilter, Listing, Progress, Purged, Release,
    Renewal, Renewed, Store, StoreError, Subscription, Transactor,
};
use crate::clock::{Clock, SystemClock};
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{Owner, Record, StoredResponse};

mod reading;
pub(crate) mod registry;
mod shard;
#[cfg(test)]
mod tests;

/// Settings of a replay cache. See the [module](self).
#[derive(Clone, Debug)]
#[must_use = "settings do nothing by themselves"]
pub struct ReplayCache {
    max_bytes: usize,
    max_age: Duration,
    clock: Arc<dyn Clock>,
}

/// A store with a replay cache in front of it. See the [module](self).
pub struct CachedStore {
    inner: Arc<dyn Store>,
    cache: Arc<Cache>,
}

/// What is cached.
#[derive(Debug)]
struct Cache {
    shards: [Mutex<Shard>; SHARDS],
    max_age: Duration,
    clock: Arc<dyn Clock>,
}

/// How many locks the keys share.
const SHARDS: usize = 16;

impl ReplayCache {
    /// The default settings.
    pub fn new() -> Self {
        Self {
            max_bytes: 8 * 1024 * 1024,
            max_age: Duration::from_secs(10),
            clock: Arc::new(SystemClock::default()),
        }
    }

    /// The most bytes that cached records may occupy, with all that they keep alive. Default 8 MiB. What
    /// was not asked for in the longest time goes first, roughly; a response that takes more than a 64th
    /// of it (128 KiB) is not cached.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How long a cached record is answered from before the store is asked again. Default 10 s. It is
    /// also how late a removal by another process is seen.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// The clock, for tests. Default [`SystemClock`].
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// A store with an empty cache of these settings in front of it.
    #[must_use]
    pub fn in_front_of(self, store: impl Store) -> CachedStore {
        let of_a_shard = self.max_bytes / SHARDS;
        let cache = Arc::new(Cache {
            shards: std::array::from_fn(|_| Mutex::new(Shard::new(of_a_shard))),
            max_age: self.max_age,
            clock: self.clock,
        });
        registry::register(&cache);
        CachedStore {
            inner: shared(store),
            cache,
        }
    }
}

impl Default for ReplayCache {
    fn default() -> Self {
        Self::new()
    }
}

impl CachedStore {
    /// The response to exactly this request, if it is cached: a replay without a store call.
    #[must_use]
    pub fn replay(
        &self,
        key: &RecordKey,
        fingerprint: &Fingerprint,
    ) -> Option<Arc<StoredResponse>> {
        let now = self.cache.clock.now();
        let answer = |shard: &mut Shard| shard.answer(key, fingerprint, now);
        match self.cache.with_shard(key, answer) {
            Some(Claim::Completed(response)) => Some(response),
            _ => None,
        }
    }

    /// How many bytes the cached records occupy, by the same count as
    /// [`max_bytes`](ReplayCache::max_bytes).
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.cache.size_bytes()
    }
}

impl Cache {
    fn size_bytes(&self) -> usize {
        let of_a_shard = |shard| lock(shard).size_bytes();
        self.shards.iter().map(of_a_shard).sum()
    }

    fn with_shard<T>(&self, key: &RecordKey, f: impl FnOnce(&mut Shard) -> T) -> T {
        // By another byte than those that are the hash inside the shard.
        let [.., last] = key.as_bytes();
        #[expect(clippy::indexing_slicing, reason = "a remainder is in range")]
        let shard = &self.shards[usize::from(*last) % SHARDS];
        let mut shard = lock(shard);
        let value = f(&mut shard);
        let evicted = shard.take_evicted();
        drop(shard);
        // Not under the lock: it can be many.
        drop(evicted);
        value
    }

    /// What a claim comes to after a read; `None` sends the caller to the store's own claim.
    fn answered(
        &self,
        request: &ClaimRequest<'_>,
        outcome: Outcome,
    ) -> Option<Result<Claim, StoreError>> {
        let (key, fingerprint) = (&request.owner.key, &request.fingerprint);
        match outcome {
            Ok(record) => record.map(|record| Ok(record.answer(fingerprint))),
            // The record is immutable and lives on, whether or not the store can be read.
            Err(error) if !error.is_about_item() => {
                let now = self.clock.now();
                let stale = self.with_shard(key, |shard| shard.stale(key, fingerprint, now));
                // The store was not asked to claim.
                Some(stale.ok_or_else(|| error.not_executed()))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// Every change under these locks leaves a shard whole.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for CachedStore {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        let (key, fingerprint) = (&request.owner.key, &request.fingerprint);
        loop {
            let now = self.cache.clock.now();
            let look = |shard: &mut Shard| shard.look(key, fingerprint, now);
            let outcome = match self.cache.with_shard(key, look) {
                Look::Answer(claim) => return Ok(claim),
                Look::Unknown => break,
                Look::Lead(right) => Some(lead(&self.cache, &self.inner, key, right).await),
                Look::Follow { flight, is_cached } => {
                    follow(&self.cache, &self.inner, key, flight, is_cached).await
                }
            };
            let Some(outcome) = outcome else {
                continue;
            };
            match self.cache.answered(request, outcome) {
                Some(answer) => return answer,
                None => break,
            }
        }
        let claim = self.inner.claim(request).await?;
        if let Claim::Completed(_) = claim {
            self.cache.with_shard(key, |shard| shard.note(key));
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
        self.inner.complete(owner, response, ttl).await
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

    /// From the store, always: a caller that reads a record wants its times.
    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.inner.get(key).await
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        let _removal = Removal(key);
        self.inner.remove(key).await
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        self.inner.purge_expired(limit).await
    }

    async fn list(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        self.inner.list(filter, cursor, limit).await
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        self.inner.subscribe(key)
    }

    fn transactor(&self) -> Option<Transactor> {
        self.inner.transactor()
    }
}

impl fmt::Debug for CachedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedStore")
            .field("inner", &self.inner)
            .field("bytes", &self.size_bytes())
            .field("max_age", &self.cache.max_age)
            .finish_non_exhaustive()
    }
}
