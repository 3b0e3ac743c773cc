//! The replay cache: hot replays without a round trip.
//!
//! # The problem
//!
//! A client in trouble asks again and again, and every time the same bytes come from the store: a
//! round trip for an answer that cannot change any more. [`CachedStore`] stands in front of a store
//! and keeps **completed records only**, which are immutable until they expire, in a few MiB of this
//! process's memory.
//!
//! # What it guarantees
//!
//! Every rule of [`Store`], because it can only say two things by itself: that a record is completed,
//! with its response, and that it is another request's. Nobody runs because of either. Whatever makes
//! a claim, writes or removes goes to the store.
//!
//! A record is kept by its second replay, and answered from here as of the third:
//!
//! | replay | what the store is asked |
//! | --- | --- |
//! | first | to claim, as without a cache |
//! | second | to read instead: the answer, and how long the record lives |
//! | from the third on | nothing, and a read again when [`max_age`](ReplayCache::max_age) is over |
//!
//! So a replay costs one round trip at most, and a key that is claimed anew after its expiry one more
//! than without a cache, once. **An answer ends with its record's life**, by the store's own count of
//! it (`expires_in`, from the moment before it was asked): the store's clock decides, this process only
//! measures.
//!
//! # Caveats
//!
//! * **A removal by somebody else is seen late**, by [`max_age`](ReplayCache::max_age) (10 s) at
//!   most: an operator who frees a key through another process, or in the database, may see it replayed
//!   here for that long. [`Store::remove`] through the cache is effective at once.
//! * Where this process's clock and the store's disagree about how long a while is, by drift, by a step
//!   of the server's clock, or because this machine was suspended meanwhile, an answer can outlive its
//!   record by as much, and by `max_age` at most. That is a replay too many and never a run too many.
//! * Hot replays go on while the store is away.
//! * A replay in a transaction (`#[tx]`) is read in the database, as without a cache.
//! * The responses are in this process's memory, in the clear.
//!
//! # Using it
//!
//! [`Idempotency::builder`](crate::Idempotency::builder) and
//! [`connect`](crate::Idempotency::connect) put one in front of every store but those that
//! [need none](Store::replays_from_memory).
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

use self::shard::{Kept, Look, Removals, Shard};
use super::{
    Claim, ClaimRequest, Completion, Progress, Purged, Release, Renewal, Renewed, Store,
    StoreError, Subscription, Transactor,
};
use crate::clock::{Clock, SystemClock};
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{Owner, Record, RecordState, StoredResponse};

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
pub struct CachedStore<S> {
    inner: S,
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

    /// The most bytes that kept records may occupy, about. Default 8 MiB. What was not asked for in
    /// the longest time goes first, roughly; a response that takes more than a 64th of it (128 KiB)
    /// is not kept.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How long a kept record is answered from before the store is asked again. Default 10 s. It is
    /// also how late a removal is seen that did not go through this cache.
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
    pub fn in_front_of<S: Store>(self, store: S) -> CachedStore<S> {
        let of_a_shard = self.max_bytes / SHARDS;
        CachedStore {
            inner: store,
            shards: std::array::from_fn(|_| Mutex::new(Shard::new(of_a_shard))),
            max_age: self.max_age,
            clock: self.clock,
        }
    }
}

impl Default for ReplayCache {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> CachedStore<S> {
    /// About how many bytes the kept records occupy, by the same count as
    /// [`max_bytes`](ReplayCache::max_bytes).
    #[must_use]
    pub fn size_bytes(&self) -> usize {
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
}

impl<S: Store> CachedStore<S> {
    /// Reads the record of a key that was replayed before, and keeps it if it is completed; `None` sends
    /// the caller to the store's own claim.
    async fn read(
        &self,
        request: &ClaimRequest<'_>,
        asked_at: Duration,
        removals: Removals,
    ) -> Result<Option<Claim>, StoreError> {
        let key = &request.owner.key;
        let kept = match self.inner.get(key).await? {
            Some(Record {
                fingerprint,
                expires_in,
                state: RecordState::Completed(response),
                ..
            }) => Kept {
                fingerprint,
                response,
                fresh_until: asked_at.saturating_add(self.max_age.min(expires_in)),
                expires_at: asked_at.saturating_add(expires_in),
            },
            _ => {
                self.with_shard(key, |shard| shard.forget(key));
                return Ok(None);
            }
        };
        let claim = kept.answer(&request.fingerprint);
        self.with_shard(key, |shard| shard.keep(*key, kept, removals));
        Ok(Some(claim))
    }
}

/// Every change under these locks leaves a shard whole.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets a key at the end of a removal, however that ends: given up half-way, it may have happened.
struct Forget<'a, S> {
    cache: &'a CachedStore<S>,
    key: &'a RecordKey,
}

impl<S> Drop for Forget<'_, S> {
    fn drop(&mut self) {
        self.cache
            .with_shard(self.key, |shard| shard.forget(self.key));
    }
}

#[async_trait]
impl<S: Store> Store for CachedStore<S> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn replays_from_memory(&self) -> bool {
        true
    }

    fn kept(&self, key: &RecordKey, fingerprint: &Fingerprint) -> Option<Arc<StoredResponse>> {
        let now = self.clock.now();
        match self.with_shard(key, |shard| shard.look(key, fingerprint, now)) {
            Look::Answer(Claim::Completed(response)) => Some(response),
            _ => None,
        }
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        let (key, fingerprint) = (&request.owner.key, &request.fingerprint);
        // Before the question, so that what the store says of the record's life is counted from no
        // later than when it said so.
        let asked_at = self.clock.now();
        match self.with_shard(key, |shard| shard.look(key, fingerprint, asked_at)) {
            Look::Answer(claim) => return Ok(claim),
            Look::Replayed(removals) => {
                if let Some(claim) = self.read(request, asked_at, removals).await? {
                    return Ok(claim);
                }
            }
            Look::Unknown => {}
        }
        let claim = self.inner.claim(request).await?;
        if let Claim::Completed(_) = claim {
            self.with_shard(key, |shard| shard.note(key));
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

    /// From the store, always: who reads a record wants its times.
    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.inner.get(key).await
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        let _forget = Forget { cache: self, key };
        self.inner.remove(key).await
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        self.inner.purge_expired(limit).await
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        self.inner.subscribe(key)
    }

    fn transactor(&self) -> Option<Transactor> {
        self.inner.transactor()
    }
}

impl<S: fmt::Debug> fmt::Debug for CachedStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedStore")
            .field("inner", &self.inner)
            .field("bytes", &self.size_bytes())
            .field("max_age", &self.max_age)
            .finish_non_exhaustive()
    }
}
