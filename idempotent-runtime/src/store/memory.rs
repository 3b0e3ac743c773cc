//! The in-process store: for one process, for development, and for tests.
//!
//! # What it guarantees
//!
//! Every rule of [`Store`], for as long as the process lives. A restart forgets every key, and two
//! processes do not see each other's: a service with more than one instance, or one that must not
//! charge twice after a crash, wants a store outside the process.
//!
//! # Bounds
//!
//! The store holds at most [`max_records`](MemoryStoreBuilder::max_records) records and
//! [`max_bytes`](MemoryStoreBuilder::max_bytes) bytes. At a bound a **new** claim is refused
//! ([`StoreErrorKind::Full`], answered 503); a record that is alive is never dropped to make room,
//! because a dropped record is a second charge. Replays and completions go on as ever.
//!
//! Expired records are freed as new claims come in, a few at a time, found by their expiry and not
//! by a scan; so are those that [`purge_expired`](Store::purge_expired) is called for. An abandoned
//! record that goes at the end of its retention is logged as an error, whichever way it goes.
//!
//! ```
//! use idempotent_runtime::Idempotency;
//! use idempotent_runtime::store::memory::MemoryStore;
//!
//! let store = MemoryStore::builder().max_records(100_000).max_bytes(256 * 1024 * 1024).build();
//! let idempotency = Idempotency::new(store);
//! # drop(idempotency);
//! ```

use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;

use self::entry::{Entry, Moment};
use self::expiry::{Due, ExpiryQueue};
use self::operations::Operations;
use super::listing::foreign_cursor;
use super::{
    Acquired, Claim, ClaimRequest, Completion, ListCursor, ListFilter, Listing, Progress, Purged,
    PurgedClaim, Release, Renewal, Renewed, Store, StoreError, StoreErrorKind, Subscription,
};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind};
use crate::fingerprint::Fingerprint;
use crate::key::{RecordKey, Uniform};
use crate::record::{CompactResponse, Owner, Record, StoredResponse};

mod entry;
mod expiry;
mod listing;
mod operations;
#[cfg(test)]
mod tests;

/// How many locks the records share. A table grows by moving all that is in it while its lock is held:
/// of ten million records one has ten thousand, which takes less than a millisecond.
const SHARDS: usize = 256;

/// How many expired records one claim frees at most: more than one, so that the store drains.
const SWEEP_PER_CLAIM: usize = 4;

/// How many expired records a claim frees before it is refused for want of room.
const SWEEP_WHEN_FULL: usize = 256;

/// Records in this process's memory. See the [module](self).
pub struct MemoryStore {
    /// Boxed, because a table is looked up at random: the smaller it is, the more of it is cached.
    records: DashMap<RecordKey, Box<Entry>, BuildHasherDefault<Uniform>>,
    expiries: ExpiryQueue,
    operations: Operations,
    clock: Arc<dyn Clock>,
    max_records: usize,
    max_bytes: usize,
    count: AtomicUsize,
    bytes: AtomicUsize,
}

/// Settings of a [`MemoryStore`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct MemoryStoreBuilder {
    max_records: usize,
    max_bytes: usize,
    clock: Arc<dyn Clock>,
}

impl MemoryStore {
    /// A store with the default bounds.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A store with the default bounds: what `memory:` names.
    ///
    /// # Errors
    ///
    /// [`Error`] when there is more to the URL than its scheme.
    pub fn connect(url: &str) -> Result<Self, Error> {
        match url {
            "memory:" | "memory://" => Ok(Self::new()),
            _ => {
                let message = "the memory store takes nothing behind `memory:`";
                Err(Error::new(ErrorKind::InvalidUrl, message))
            }
        }
    }

    /// A store with other bounds.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder {
            max_records: 1_000_000,
            max_bytes: 1024 * 1024 * 1024,
            clock: Arc::new(SystemClock::default()),
        }
    }

    /// How many records there are, expired ones that were not freed yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes the records occupy, by the same count as
    /// [`max_bytes`](MemoryStoreBuilder::max_bytes).
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn now(&self) -> Moment {
        Moment::new(self.clock.now())
    }

    fn try_claim(
        &self,
        request: &ClaimRequest<'_>,
        now: Moment,
        purged: &mut Purged,
    ) -> Result<Claim, StoreError> {
        let key = request.owner.key;
        match self.records.entry(key) {
            Slot::Occupied(mut slot) if slot.get().is_expired(now) => {
                let entry = slot.get_mut();
                let operation = self.operations.intern(request.operation);
                let claimed = Entry::claimed(request, operation, now);
                let expired = std::mem::replace(&mut **entry, claimed);
                self.expiries.change(expired.queued, entry.queued, key);
                self.resize(expired.size_bytes(), entry.size_bytes());
                expired.wake();
                drop(slot);
                count(key, &expired, purged);
            }
            Slot::Occupied(mut slot) => {
                let claim = slot.get_mut().claim(request, now);
                self.place(key, slot.get_mut());
                return Ok(claim);
            }
            Slot::Vacant(slot) => {
                let operation = self.operations.intern(request.operation);
                let entry = Box::new(Entry::claimed(request, operation, now));
                self.reserve(entry.size_bytes())?;
                let entry = slot.insert(entry);
                self.expiries.insert(entry.queued, key);
            }
        }
        Ok(Claim::Acquired(Acquired {
            attempt: 1,
            age: Duration::ZERO,
        }))
    }

    /// Sees to it that a record is found as soon as it has expired, after its expiry has moved. Under its
    /// lock.
    fn place(&self, key: RecordKey, entry: &mut Entry) {
        if let Some(second) = entry.is_queued_late() {
            self.expiries.change(entry.queued, second, key);
            entry.queued = second;
        }
    }

    /// Counts one more record, unless a bound forbids it.
    fn reserve(&self, bytes: usize) -> Result<(), StoreError> {
        let full = || StoreError::new(NAME, StoreErrorKind::Full);
        if self.bytes.load(Ordering::Relaxed).saturating_add(bytes) > self.max_bytes {
            return Err(full());
        }
        let within = |count| (count < self.max_records).then_some(count + 1);
        self.count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
            .map_err(|_| full())?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn resize(&self, from: usize, to: usize) {
        if to >= from {
            self.bytes.fetch_add(to - from, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(from - to, Ordering::Relaxed);
        }
    }

    /// Removes a record if it is as wanted, counts one less, and tells its waiters.
    ///
    /// Its place in the queue goes under its lock: the next claim of the key has another.
    fn remove_if(&self, key: &RecordKey, wanted: impl Fn(&Entry) -> bool) -> Option<Box<Entry>> {
        let (_, entry) = self.records.remove_if(key, |_, entry| {
            let is_wanted = wanted(entry);
            if is_wanted {
                self.expiries.remove(entry.queued, key);
            }
            is_wanted
        })?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.resize(entry.size_bytes(), 0);
        entry.wake();
        Some(entry)
    }

    /// Frees up to `limit` expired records.
    fn sweep(&self, now: Moment, limit: usize, purged: &mut Purged) {
        for due in self.expiries.take_due(now, limit) {
            match self.remove_if(&due.key, |entry| entry.is_expired(now)) {
                Some(entry) => count(due.key, &entry, purged),
                None => self.look_again_later(due),
            }
        }
    }

    /// A record that lives on, because something has put its expiry off, gets a new place. One that has
    /// another place already, or is gone, needs none.
    fn look_again_later(&self, due: Due) {
        if let Some(mut entry) = self.records.get_mut(&due.key)
            && entry.queued == due.second
        {
            entry.queued = ExpiryQueue::second(entry.expires_at);
            self.expiries.insert(entry.queued, due.key);
        }
    }
}

/// Counts a record that was freed, and notes it if its outcome was never resolved.
fn count(key: RecordKey, entry: &Entry, purged: &mut Purged) {
    purged.records += 1;
    if let Some(operation) = entry.uncompleted() {
        purged.abandoned.push(PurgedClaim { key, operation });
    }
}

/// Tells of abandoned records that a claim has freed: no purge will.
#[cold]
fn report(abandoned: &[PurgedClaim]) {
    for claim in abandoned {
        tracing::error!(record = %claim.key, operation = &*claim.operation,
            "purged an abandoned record: its outcome was never resolved, and its key is free");
    }
}

const NAME: &str = "memory";

/// What the engine asks for without waiting.
impl MemoryStore {
    /// As [`Store::claim`].
    pub(crate) fn claim_now(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        let now = self.now();
        let mut purged = Purged::default();
        self.sweep(now, SWEEP_PER_CLAIM, &mut purged);
        let mut claim = self.try_claim(request, now, &mut purged);
        if claim.is_err() {
            let before = purged.records;
            self.sweep(now, SWEEP_WHEN_FULL, &mut purged);
            if purged.records > before {
                claim = self.try_claim(request, now, &mut purged);
            }
        }
        if !purged.abandoned.is_empty() {
            report(&purged.abandoned);
        }
        claim
    }

    /// As [`Store::complete`], of a response that is stored as it is.
    pub(crate) fn complete_now(
        &self,
        owner: &Owner,
        response: CompactResponse,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        // Never, whatever else expires.
        if Entry::BASE_BYTES + response.size_bytes() > self.max_bytes {
            return Err(StoreError::new(NAME, StoreErrorKind::TooLarge));
        }
        let Some(mut entry) = self.records.get_mut(&owner.key) else {
            return Ok(Completion::Lost);
        };
        let before = entry.size_bytes();
        let completion = entry.complete(owner, response, ttl, self.now());
        self.resize(before, entry.size_bytes());
        self.place(owner.key, &mut entry);
        Ok(completion)
    }

    /// The response to exactly this request, if it is completed.
    pub(crate) fn replay(
        &self,
        key: &RecordKey,
        fingerprint: &Fingerprint,
    ) -> Option<Arc<StoredResponse>> {
        let entry = self.records.get(key)?;
        entry.replay(fingerprint, self.now())
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        self.claim_now(request)
    }

    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        let now = self.now();
        let renew = |renewal: &Renewal| {
            let key = renewal.owner.key;
            let is_renewed = self.records.get_mut(&key).is_some_and(|mut entry| {
                let is_renewed = entry.renew(renewal, now);
                self.place(key, &mut entry);
                is_renewed
            });
            Ok(if is_renewed {
                Renewed::Renewed
            } else {
                Renewed::Lost
            })
        };
        renewals.iter().map(renew).collect()
    }

    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        if Entry::BASE_BYTES
            .saturating_add(offset)
            .saturating_add(bytes.len())
            > self.max_bytes
        {
            return Err(StoreError::new(NAME, StoreErrorKind::TooLarge));
        }
        let Some(mut entry) = self.records.get_mut(&owner.key) else {
            return Ok(Progress::Lost);
        };
        let before = entry.size_bytes();
        let saved = entry.save_progress(owner, offset, bytes, self.now());
        self.resize(before, entry.size_bytes());
        Ok(saved)
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        self.complete_now(owner, (&**response).into(), ttl)
    }

    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        let now = self.now();
        let release = |owner: &Owner| {
            let released = self.remove_if(&owner.key, |entry| entry.is_held_by(owner, now));
            Ok(match released {
                Some(_) => Release::Released,
                None => Release::Lost,
            })
        };
        owners.iter().map(release).collect()
    }

    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        let now = self.now();
        let abandon = |owner: &Owner| {
            let entry = self.records.get_mut(&owner.key);
            let is_abandoned = entry.is_some_and(|mut entry| entry.abandon(owner, now));
            Ok(if is_abandoned {
                Release::Released
            } else {
                Release::Lost
            })
        };
        owners.iter().map(abandon).collect()
    }

    async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        let Some(mut entry) = self.records.get_mut(key) else {
            return Ok(false);
        };
        let is_given = entry.give_grace(attempt, grace, retention, now);
        self.place(*key, &mut entry);
        Ok(is_given)
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let now = self.now();
        Ok(self.records.get(key).and_then(|entry| entry.record(now)))
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        let now = self.now();
        let removed = self.remove_if(key, |_| true);
        Ok(removed.is_some_and(|entry| !entry.is_expired(now)))
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        let mut purged = Purged::default();
        self.sweep(self.now(), limit, &mut purged);
        Ok(purged)
    }

    async fn list(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        let after = match cursor {
            Some(cursor) => Some(cursor.key().ok_or_else(|| foreign_cursor(NAME))?),
            None => None,
        };
        Ok(self.page(filter, after, limit))
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        let changed = self.records.get_mut(key).and_then(|mut entry| {
            let before = entry.size_bytes();
            let changed = entry.changed();
            self.resize(before, entry.size_bytes());
            changed
        });
        match changed {
            Some(changed) => Subscription::reliable(changed),
            // No attempt is running: there is something new to see at once.
            None => Subscription::reliable(std::future::ready(())),
        }
    }
}

impl MemoryStoreBuilder {
    /// The most records held at a time. Default 1,000,000.
    pub fn max_records(mut self, records: usize) -> Self {
        self.max_records = records;
        self
    }

    /// The most bytes that records may occupy, about. Default 1 GiB.
    ///
    /// It is checked when a claim comes in, when the size of its response is not known yet: with
    /// `n` handlers running, the bound can be passed by `n` responses, and by the progress of as many
    /// attempts with steps. A response that alone takes more is refused
    /// ([`StoreErrorKind::TooLarge`]), and a tombstone is stored.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The clock, for tests. Default [`SystemClock`].
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Makes the store.
    #[must_use]
    pub fn build(self) -> MemoryStore {
        MemoryStore {
            records: DashMap::with_hasher_and_shard_amount(BuildHasherDefault::default(), SHARDS),
            expiries: ExpiryQueue::default(),
            operations: Operations::default(),
            clock: self.clock,
            max_records: self.max_records,
            max_bytes: self.max_bytes,
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("records", &self.len())
            .field("bytes", &self.size_bytes())
            .finish_non_exhaustive()
    }
}
