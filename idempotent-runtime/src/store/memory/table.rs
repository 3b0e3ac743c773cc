//! The records of the in-process store, within their bounds.

use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Slot;

use super::entry::Entry;
use super::expiry::{ExpiryQueue, Place};
use super::moment::Moment;
use super::operations::Operations;
use crate::key::{RecordKey, Uniform};
use crate::store::{
    Acquired, Claim, ClaimRequest, Purged, PurgedClaim, StoreError, StoreErrorKind,
};

pub(super) const NAME: &str = "memory";

/// How many locks the records share. A table grows by moving all that is in it while its lock is held:
/// of ten million records one has ten thousand, which takes less than a millisecond.
const SHARDS: usize = 256;

/// How many expired records one claim frees at most: more than one, so that the store drains.
const SWEEP_PER_CLAIM: usize = 4;

/// How many expired records a claim frees before it is refused for want of room.
pub(super) const SWEEP_WHEN_FULL: usize = 256;

/// All records. Each method is one atomic step for one record.
pub(super) struct Table {
    /// Boxed, because a table is looked up at random: the smaller it is, the more of it is cached.
    records: DashMap<RecordKey, Box<Entry>, BuildHasherDefault<Uniform>>,
    pub(super) expiries: ExpiryQueue,
    operations: Operations,
    max_records: usize,
    max_bytes: usize,
    count: AtomicUsize,
    bytes: AtomicUsize,
}

impl Table {
    pub(super) fn new(max_records: usize, max_bytes: usize) -> Self {
        Self {
            records: DashMap::with_hasher_and_shard_amount(BuildHasherDefault::default(), SHARDS),
            expiries: ExpiryQueue::default(),
            operations: Operations::default(),
            max_records,
            max_bytes,
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Frees a few expired records, and claims.
    pub(super) fn claim(
        &self,
        request: &ClaimRequest<'_>,
        now: Moment,
    ) -> Result<Claim, StoreError> {
        let mut purged = Purged::default();
        let due = self.expiries.take_due_in_turn(now, SWEEP_PER_CLAIM);
        self.free(due, now, &mut purged);
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

    /// What is read of a record.
    pub(super) fn read<T>(&self, key: &RecordKey, read: impl FnOnce(&Entry) -> T) -> Option<T> {
        Some(read(&**self.records.get(key)?))
    }

    /// Of all records, a shard at a time, which is locked meanwhile.
    pub(super) fn read_all<T>(
        &self,
        read: impl Fn(&RecordKey, &Entry) -> Option<T>,
    ) -> impl Iterator<Item = T> {
        let records = self.records.iter();
        records.filter_map(move |record| read(record.key(), record.value()))
    }

    /// Changes a record, and counts what it occupies then.
    pub(super) fn change<T>(
        &self,
        key: &RecordKey,
        change: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        let mut entry = self.records.get_mut(key)?;
        let before = entry.size_bytes();
        let changed = change(&mut entry);
        self.resize(before, entry.size_bytes());
        self.place(*key, &mut entry);
        Some(changed)
    }

    /// Refuses what alone is larger than the bound, which never fits, whatever else expires.
    pub(super) fn check_size(&self, bytes: usize) -> Result<(), StoreError> {
        if Entry::BASE_BYTES.saturating_add(bytes) > self.max_bytes {
            return Err(StoreError::new(NAME, StoreErrorKind::TooLarge));
        }
        Ok(())
    }

    pub(super) fn try_claim(
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
                self.expiries.remove(expired.queued, &key);
                self.enqueue(&key, entry);
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
                let mut entry = slot.insert(entry);
                self.enqueue(&key, &mut entry);
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
        if entry.is_queued_late() {
            self.expiries.remove(entry.queued, &key);
            self.enqueue(&key, entry);
        }
    }

    /// Gives a record its place.
    fn enqueue(&self, key: &RecordKey, entry: &mut Entry) {
        entry.queued = self.expiries.insert(entry.expires_at.next_second(), key);
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
    pub(super) fn remove_if(
        &self,
        key: &RecordKey,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Option<Box<Entry>> {
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

    /// Frees up to `limit` expired records: fewer only if there are no more.
    pub(super) fn sweep(&self, now: Moment, limit: usize, purged: &mut Purged) {
        let end = purged.records + limit;
        while purged.records < end {
            let due = self.expiries.take_due(now, end - purged.records);
            if due.is_empty() {
                return;
            }
            self.free(due, now, purged);
        }
    }

    fn free(&self, due: Vec<(Place, RecordKey)>, now: Moment, purged: &mut Purged) {
        for (place, key) in due {
            match self.remove_if(&key, |entry| entry.is_expired(now)) {
                Some(entry) => count(key, &entry, purged),
                None => self.look_again_later(place, &key),
            }
        }
    }

    /// A record that lives on, because something has put its expiry off, gets a new place. One that has
    /// another place already, or is gone, needs none.
    fn look_again_later(&self, place: Place, key: &RecordKey) {
        if let Some(mut entry) = self.records.get_mut(key)
            && entry.queued == place
        {
            self.enqueue(key, &mut entry);
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
