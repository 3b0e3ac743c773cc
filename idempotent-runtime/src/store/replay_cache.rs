//! The replay cache: hot replays without a round trip.
//!
//! # The problem
//!
//! A client in trouble retries again and again, and every time the same bytes come from the store: a round trip for an
//! answer that cannot change any more. [`CachedStore`] wraps a store and caches **completed records only**, which are
//! immutable until they expire, in a few MiB of this process's memory.
//!
//! # What it guarantees
//!
//! Every rule of [`Store`], because the cache gives only two answers by itself: a record is completed, with its
//! response, or it belongs to another request. Neither answer makes a request run. Every claim, write and removal goes
//! to the store.
//!
//! The second replay of a record puts it into the cache, and replays from the third on come from the cache:
//!
//! | replay | the store call |
//! | --- | --- |
//! | first | a claim, as without a cache |
//! | second | a read instead: the response, and how long the record lives |
//! | from the third on | none; another read after [`max_age`](ReplayCache::max_age) |
//!
//! **Only one caller at a time reads a key**: other callers wait for the same answer, and read themselves after a
//! second. **While the store cannot be read, the cached response is replayed**
//! ([stale-if-error](https://www.rfc-editor.org/rfc/rfc5861)): the record is immutable until it expires. The store is
//! then asked once a second for each such key, and for at most a second. If the record itself cannot be read
//! ([`is_about_item`](StoreError::is_about_item)), that is an error.
//!
//! So a replay makes at most one store call. A new claim after a record has expired may make one more than without a
//! cache. **A cached response expires with its record**, by the store's `expires_in`, counted from the moment before
//! the read: the store's clock decides, this process only measures.
//!
//! # Caveats
//!
//! * **A removal by another process is seen late**, after at most [`max_age`](ReplayCache::max_age) (10 s) while the
//!   store can be read: if an operator frees a key through another process, or in the database, this process may replay
//!   it for that long. [`Store::remove`] through any cache of this process is effective at once in all of them.
//! * If the clocks of this process and the store run at different speeds (drift, a step of the server's clock, a
//!   suspended machine), a response can outlive its record by the difference, but at most by `max_age` while the store
//!   can be read. That can cause one replay too many, but never a run too many.
//! * A replay in a transaction (`#[tx]`) is read in the database, as without a cache.
//! * The responses are in this process's memory, in clear text.
//!
//! # Using it
//!
//! [`Idempotency::builder`](crate::Idempotency::builder) and [`connect`](crate::Idempotency::connect) wrap every store
//! in a cache, except the memory store and a [`CachedStore`] of your own.
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

/// A store wrapped in a replay cache. See the [module](self).
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

    /// The most bytes that cached records may occupy, including all memory that they keep alive. Default 8 MiB. The
    /// (approximately) least recently used record is dropped first. A response that takes more than a 64th of this (128
    /// KiB) is not cached.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How long a cached record is replayed before the store is asked again. Default 10 s. A removal by another process
    /// is seen after at most this time.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// The clock, for tests. Default [`SystemClock`].
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Wraps a store in an empty cache with these settings.
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
