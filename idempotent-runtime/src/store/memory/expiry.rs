//! Which records expire next, without looking at all of them.

use std::collections::hash_set::IntoIter;
use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::moment::Moment;
use crate::key::{RecordKey, Uniform};

/// Keys by the second in which they have expired: each record has one place, and knows its second.
///
/// Records that expire in the same second share a bucket, so that taking the due ones is a look at the
/// first bucket. A bucket is a set, so that a key that leaves before its time is found at once: that of each claim that is
/// released does.
///
/// Split by key, so that neither a lock nor the growth of a bucket holds up all claims. A lock is taken under a record's,
/// never the other way round.
#[derive(Debug, Default)]
pub(super) struct ExpiryQueue {
    parts: [Part; PARTS],
    /// The part at which the next sweep begins.
    turn: AtomicUsize,
}

const PARTS: usize = 16;

/// The queue of some keys.
#[derive(Debug)]
struct Part {
    queue: Mutex<Queue>,
    /// The first second at which something may be due, to be read without the lock.
    next: AtomicU32,
}

type Bucket = HashSet<RecordKey, BuildHasherDefault<Uniform>>;

#[derive(Debug, Default)]
struct Queue {
    buckets: BTreeMap<u32, Bucket>,
    /// What is left of the bucket that became due last, and its second.
    due: Option<(u32, IntoIter<RecordKey>)>,
}

/// A place that was taken out of the queue because its second has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) key: RecordKey,
    pub(super) second: u32,
}

/// A bucket that has so much more room than it needs gives it back.
const SPARE: usize = 8;

/// Not worth giving back.
const SMALL: usize = 64;

impl ExpiryQueue {
    pub(super) fn insert(&self, second: u32, key: RecordKey) {
        self.part(&key).insert(second, key);
    }

    /// Takes a key out; one that is due already may still come up.
    pub(super) fn remove(&self, second: u32, key: &RecordKey) {
        self.part(key).remove(second, key);
    }

    /// Gives a key another place.
    pub(super) fn change(&self, from: u32, to: u32, key: RecordKey) {
        self.part(&key).change(from, to, key);
    }

    /// Takes up to `limit` keys whose second has come.
    pub(super) fn take_due(&self, now: Moment, limit: usize) -> Vec<Due> {
        let mut taken = Vec::new();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % PARTS;
        for part in self.parts.iter().cycle().skip(turn).take(PARTS) {
            part.take_due(now, limit, &mut taken);
        }
        taken
    }

    /// As [`take_due`](Self::take_due), of those keys only that share a lock with this one.
    pub(super) fn take_due_beside(&self, key: &RecordKey, now: Moment, limit: usize) -> Vec<Due> {
        let mut taken = Vec::new();
        self.part(key).take_due(now, limit, &mut taken);
        taken
    }

    /// How many keys it holds.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let of_queue = |queue: &Queue| {
            let due = queue.due.as_ref().map_or(0, |(_, due)| due.len());
            due + queue.buckets.values().map(Bucket::len).sum::<usize>()
        };
        self.parts.iter().map(|part| of_queue(&part.lock())).sum()
    }

    /// For how many keys it has room.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        let of_queue = |queue: &Queue| queue.buckets.values().map(Bucket::capacity).sum::<usize>();
        self.parts.iter().map(|part| of_queue(&part.lock())).sum()
    }

    fn part(&self, key: &RecordKey) -> &Part {
        let [.., last] = key.as_bytes();
        let [first, ..] = &self.parts;
        self.parts.get(usize::from(*last) % PARTS).unwrap_or(first)
    }
}

impl Part {
    fn insert(&self, second: u32, key: RecordKey) {
        self.lock().insert(second, key);
        self.next.fetch_min(second, Ordering::Relaxed);
    }

    fn remove(&self, second: u32, key: &RecordKey) {
        let empty = self.lock().remove(second, key);
        // Freed after the lock.
        drop(empty);
    }

    fn change(&self, from: u32, to: u32, key: RecordKey) {
        let empty = {
            let mut queue = self.lock();
            queue.insert(to, key);
            queue.remove(from, &key)
        };
        drop(empty);
        self.next.fetch_min(to, Ordering::Relaxed);
    }

    fn take_due(&self, now: Moment, limit: usize, taken: &mut Vec<Due>) {
        if taken.len() >= limit || now.second() < self.next.load(Ordering::Relaxed) {
            return;
        }
        // Freed after the lock, which others wait for while they hold a record's: a bucket is large.
        let mut empty = Vec::new();
        let mut queue = self.lock();
        while taken.len() < limit && queue.has_due(now, &mut empty) {
            let more = limit - taken.len();
            if let Some((second, due)) = &mut queue.due {
                let second = *second;
                taken.extend(due.by_ref().take(more).map(|key| Due { key, second }));
            }
        }
        let is_left = queue.due.as_ref().is_some_and(|(_, due)| due.len() > 0);
        let next = if is_left { 0 } else { queue.first_second() };
        self.next.store(next, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Each change is one insert or remove, so a panic leaves nothing half done.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Part {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            next: AtomicU32::new(u32::MAX),
        }
    }
}

impl Queue {
    fn insert(&mut self, second: u32, key: RecordKey) {
        self.buckets.entry(second).or_default().insert(key);
    }

    /// Returns the bucket, if that was its last key.
    fn remove(&mut self, second: u32, key: &RecordKey) -> Option<Bucket> {
        let bucket = self.buckets.get_mut(&second)?;
        bucket.remove(key);
        if bucket.is_empty() {
            return self.buckets.remove(&second);
        }
        if bucket.capacity() > SMALL && bucket.len() < bucket.capacity() / SPARE {
            bucket.shrink_to(bucket.len() * 2);
        }
        None
    }

    /// Whether `due` has a key, after having opened the next bucket if there is one to open. One that is
    /// done with is added to `empty`.
    fn has_due(&mut self, now: Moment, empty: &mut Vec<(u32, IntoIter<RecordKey>)>) -> bool {
        if self.due.as_ref().is_some_and(|(_, due)| due.len() > 0) {
            return true;
        }
        empty.extend(self.due.take());
        if self.first_second() <= now.second() {
            self.due = self
                .buckets
                .pop_first()
                .map(|(second, bucket)| (second, bucket.into_iter()));
        }
        self.due.is_some()
    }

    fn first_second(&self) -> u32 {
        self.buckets
            .first_key_value()
            .map_or(u32::MAX, |(second, _)| *second)
    }
}
