//! Which records expire next, without looking at all of them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::moment::Moment;
use crate::key::RecordKey;

/// Keys by the second in which they have expired: each record has one place, and knows its second.
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
    queue: Mutex<BTreeSet<Place>>,
    /// The first second at which something may be due, to be read without the lock.
    next: AtomicU32,
}

/// Of one record. One that was taken out because its second has come is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) second: u32,
    /// The first bytes of the key as a number, which is compared in one step.
    head: u64,
    tail: [u8; 24],
}

impl Place {
    /// What one takes in a tree whose nodes are about two thirds full.
    pub(super) const BYTES: usize = size_of::<Self>() * 7 / 4;

    fn new(second: u32, key: &RecordKey) -> Self {
        let (mut head, mut tail) = ([0; 8], [0; 24]);
        let (first, rest) = key.as_bytes().split_at(8);
        head.copy_from_slice(first);
        tail.copy_from_slice(rest);
        Self {
            second,
            head: u64::from_ne_bytes(head),
            tail,
        }
    }

    pub(super) fn key(&self) -> RecordKey {
        let mut key = [0; 32];
        let (first, rest) = key.split_at_mut(8);
        first.copy_from_slice(&self.head.to_ne_bytes());
        rest.copy_from_slice(&self.tail);
        RecordKey::from_bytes(key)
    }
}

impl ExpiryQueue {
    pub(super) fn insert(&self, second: u32, key: &RecordKey) {
        self.part(key).insert(Place::new(second, key));
    }

    /// Takes a key out; one that is due already may still come up.
    pub(super) fn remove(&self, second: u32, key: &RecordKey) {
        self.part(key).lock().remove(&Place::new(second, key));
    }

    /// Gives a key another place.
    pub(super) fn change(&self, from: u32, to: u32, key: &RecordKey) {
        self.remove(from, key);
        self.insert(to, key);
    }

    /// Takes up to `limit` places whose second has come.
    pub(super) fn take_due(&self, now: Moment, limit: usize) -> Vec<Place> {
        self.take_due_of(PARTS, now, limit)
    }

    /// As [`take_due`](Self::take_due), of one part, which is another one each time.
    pub(super) fn take_due_in_turn(&self, now: Moment, limit: usize) -> Vec<Place> {
        self.take_due_of(1, now, limit)
    }

    fn take_due_of(&self, parts: usize, now: Moment, limit: usize) -> Vec<Place> {
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
        self.parts.iter().map(|part| part.lock().len()).sum()
    }

    fn part(&self, key: &RecordKey) -> &Part {
        let ([.., last], [first, ..]) = (key.as_bytes(), &self.parts);
        self.parts.get(usize::from(*last) % PARTS).unwrap_or(first)
    }
}

impl Part {
    fn insert(&self, place: Place) {
        self.lock().insert(place);
        self.next.fetch_min(place.second, Ordering::Relaxed);
    }

    fn take_due(&self, now: Moment, limit: usize, taken: &mut Vec<Place>) {
        let second = now.second();
        if taken.len() >= limit || second < self.next.load(Ordering::Relaxed) {
            return;
        }
        let mut queue = self.lock();
        while taken.len() < limit
            && let Some(first) = queue.first().copied().filter(|it| it.second <= second)
        {
            queue.pop_first();
            taken.push(first);
        }
        let next = queue.first().map_or(u32::MAX, |first| first.second);
        self.next.store(next, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Place>> {
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
