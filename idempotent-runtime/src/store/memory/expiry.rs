//! Which records expire next, without looking at all of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::vec::IntoIter;

use super::entry::Moment;
use crate::key::RecordKey;

/// Keys by the second in which they have expired: each record is in one bucket.
///
/// Records that were claimed in the same second with the same TTL share a bucket, so that taking the
/// due ones is a look at the first bucket. A bucket is a list, because most keys are added and taken
/// and no more. Who is removed before its time is searched for, from the end: most of those have been
/// claimed just now.
///
/// Its lock is taken under a record's, never the other way round.
#[derive(Debug)]
pub(super) struct ExpiryQueue {
    queue: Mutex<Queue>,
    /// The first second at which something may be due, to be read without the lock.
    next: AtomicU32,
}

#[derive(Debug, Default)]
struct Queue {
    buckets: BTreeMap<u32, Vec<RecordKey>>,
    /// What is left of the bucket that became due last.
    due: Option<IntoIter<RecordKey>>,
}

impl Default for ExpiryQueue {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            next: AtomicU32::new(u32::MAX),
        }
    }
}

impl ExpiryQueue {
    /// The second that begins at or after the expiry: all in its bucket is due when it begins.
    pub(super) fn second(expires_at: Moment) -> u32 {
        expires_at.next_second()
    }

    pub(super) fn insert(&self, second: u32, key: RecordKey) {
        let mut queue = self.lock();
        queue.buckets.entry(second).or_default().push(key);
        self.next.fetch_min(second, Ordering::Relaxed);
    }

    /// Takes a key out; one that is due already may still come up.
    pub(super) fn remove(&self, second: u32, key: &RecordKey) {
        let mut queue = self.lock();
        if let Some(bucket) = queue.buckets.get_mut(&second) {
            if let Some(place) = bucket.iter().rposition(|queued| queued == key) {
                bucket.swap_remove(place);
            }
            if bucket.is_empty() {
                queue.buckets.remove(&second);
            }
        }
    }

    /// Takes up to `limit` keys whose second has come.
    pub(super) fn take_due(&self, now: Moment, limit: usize) -> Vec<RecordKey> {
        if now.second() < self.next.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        // Freed after the lock, which others wait for while they hold a record's: a bucket is large.
        let mut empty = Vec::new();
        let mut queue = self.lock();
        while taken.len() < limit && queue.has_due(now, &mut empty) {
            let more = limit - taken.len();
            taken.extend(queue.due.iter_mut().flatten().take(more));
        }
        let is_left = queue.due.as_ref().is_some_and(|due| due.len() > 0);
        let next = if is_left { 0 } else { queue.first_second() };
        self.next.store(next, Ordering::Relaxed);
        taken
    }

    /// How many keys it holds.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let queue = self.lock();
        let due = queue.due.as_ref().map_or(0, ExactSizeIterator::len);
        due + queue.buckets.values().map(Vec::len).sum::<usize>()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Each change is one insert or remove, so a panic leaves nothing half done.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Whether `due` has a key, after having opened the next bucket if there is one to open. One that is
    /// done with is added to `empty`.
    fn has_due(&mut self, now: Moment, empty: &mut Vec<IntoIter<RecordKey>>) -> bool {
        if self.due.as_ref().is_some_and(|due| due.len() > 0) {
            return true;
        }
        empty.extend(self.due.take());
        if self.first_second() <= now.second() {
            self.due = self
                .buckets
                .pop_first()
                .map(|(_, bucket)| bucket.into_iter());
        }
        self.due.is_some()
    }

    fn first_second(&self) -> u32 {
        self.buckets
            .first_key_value()
            .map_or(u32::MAX, |(second, _)| *second)
    }
}
