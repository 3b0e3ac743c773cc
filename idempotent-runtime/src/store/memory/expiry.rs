//! Which records expire next, without looking at all of them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::moment::Moment;
use crate::key::RecordKey;

/// Keys by the second in which they have expired: each record has one place, and knows it.
///
/// Split by key, so that no lock holds up all claims. A lock is taken under a record's, never the other way round.
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

/// In the order of their places, so that what expires in the same second is side by side in the order in which it came: it
/// is written where the last one was, which the processor still has in its cache.
#[derive(Debug, Default)]
struct Queue {
    keys: BTreeMap<Place, RecordKey>,
    /// The number of the last place.
    number: u32,
}

/// Of one record, in the queue of its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    second: u32,
    /// Tells it from the others of this second.
    number: u32,
}

impl Place {
    /// What one takes in a tree whose nodes are half full: those of claims that are running come and go between the others.
    pub(super) const BYTES: usize = (size_of::<Self>() + size_of::<RecordKey>()) * 9 / 4;

    pub(super) fn second(self) -> u32 {
        self.second
    }
}

impl ExpiryQueue {
    pub(super) fn insert(&self, second: u32, key: &RecordKey) -> Place {
        self.part(key).insert(second, key)
    }

    /// Takes a key out; one that is due already may still come up.
    pub(super) fn remove(&self, place: Place, key: &RecordKey) {
        self.part(key).lock().keys.remove(&place);
    }

    /// Takes up to `limit` places whose second has come.
    pub(super) fn take_due(&self, now: Moment, limit: usize) -> Vec<(Place, RecordKey)> {
        self.take_due_of(PARTS, now, limit)
    }

    /// As [`take_due`](Self::take_due), of one part, which is another one each time.
    pub(super) fn take_due_in_turn(&self, now: Moment, limit: usize) -> Vec<(Place, RecordKey)> {
        self.take_due_of(1, now, limit)
    }

    fn take_due_of(&self, parts: usize, now: Moment, limit: usize) -> Vec<(Place, RecordKey)> {
        let mut taken = Vec::new();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % PARTS;
        for part in self.parts.iter().cycle().skip(turn).take(parts) {
            part.take_due(now, limit, &mut taken);
        }
        taken
    }

    /// How many keys it holds.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().keys.len()).sum()
    }

    fn part(&self, key: &RecordKey) -> &Part {
        let ([.., last], [first, ..]) = (key.as_bytes(), &self.parts);
        self.parts.get(usize::from(*last) % PARTS).unwrap_or(first)
    }
}

impl Part {
    fn insert(&self, second: u32, key: &RecordKey) -> Place {
        let place = self.lock().insert(second, key);
        self.next.fetch_min(second, Ordering::Relaxed);
        place
    }

    fn take_due(&self, now: Moment, limit: usize, taken: &mut Vec<(Place, RecordKey)>) {
        let second = now.second();
        if taken.len() >= limit || second < self.next.load(Ordering::Relaxed) {
            return;
        }
        let mut queue = self.lock();
        while taken.len() < limit
            && let Some(first) = queue.keys.first_entry()
            && first.key().second <= second
        {
            taken.push(first.remove_entry());
        }
        let first = queue.keys.first_key_value();
        let next = first.map_or(u32::MAX, |(first, _)| first.second);
        self.next.store(next, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Each change is one insert or remove, so a panic leaves nothing half done.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn insert(&mut self, second: u32, key: &RecordKey) -> Place {
        loop {
            // Those that are still taken come to an end: there are not 2^32 records.
            self.number = self.number.wrapping_add(1);
            let number = self.number;
            if let Entry::Vacant(place) = self.keys.entry(Place { second, number }) {
                place.insert(*key);
                return Place { second, number };
            }
        }
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
