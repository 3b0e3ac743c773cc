//! A part of the cache: what is known of some keys, under one lock.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use crate::fingerprint::Fingerprint;
use crate::key::{RecordKey, Uniform};
use crate::record::StoredResponse;
use crate::store::Claim;

/// Two generations of entries. What is used goes into the young one; when that is full it becomes the
/// old one, and what was old and was not used meanwhile is gone. So nothing is moved at every use, and
/// nothing is searched for to make room.
#[derive(Debug)]
pub(super) struct Shard {
    young: Generation,
    old: Generation,
    /// What fell out, until somebody takes it.
    evicted: Option<Generation>,
    /// The most bytes in one generation.
    max_bytes: usize,
    removals: Removals,
}

/// How often keys were forgotten: what was read before the last time may be gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removals(u64);

#[derive(Debug, Default)]
pub(super) struct Generation {
    entries: HashMap<RecordKey, Entry, BuildHasherDefault<Uniform>>,
    bytes: usize,
}

#[derive(Debug)]
enum Entry {
    /// It was replayed, and how long it lives is not known.
    Replayed,
    Kept(Kept),
}

/// A completed record.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) fingerprint: Fingerprint,
    pub(super) response: Arc<StoredResponse>,
    /// Until when it is answered from; not after its expiry.
    pub(super) fresh_until: Duration,
    /// Until when the record lives at least.
    pub(super) expires_at: Duration,
}

/// What is known of a key.
#[derive(Debug)]
pub(super) enum Look {
    /// What a claim comes to.
    Answer(Claim),
    /// It was replayed before, and is worth being read and [kept](Shard::keep).
    Replayed(Removals),
    /// Nothing.
    Unknown,
}

impl Shard {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            young: Generation::default(),
            old: Generation::default(),
            evicted: None,
            max_bytes: max_bytes / 2,
            removals: Removals::default(),
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.young.bytes + self.old.bytes
    }

    pub(super) fn look(
        &mut self,
        key: &RecordKey,
        fingerprint: &Fingerprint,
        now: Duration,
    ) -> Look {
        match self.used(key) {
            None => Look::Unknown,
            Some(Entry::Kept(kept)) if now < kept.fresh_until => {
                Look::Answer(kept.answer(fingerprint))
            }
            Some(Entry::Kept(kept)) if now >= kept.expires_at => {
                self.young.remove(key);
                Look::Unknown
            }
            Some(_) => Look::Replayed(self.removals),
        }
    }

    /// Notes that a key was replayed.
    pub(super) fn note(&mut self, key: &RecordKey) {
        if self.used(key).is_none() {
            self.insert(*key, Entry::Replayed);
        }
    }

    /// Keeps what was read after a [`look`](Self::look), unless something was removed since: it may
    /// be this.
    pub(super) fn keep(&mut self, key: RecordKey, kept: Kept, removals: Removals) {
        if removals == self.removals {
            self.insert(key, Entry::Kept(kept));
        }
    }

    /// Forgets a key that is removed, or was found to be none that is completed.
    pub(super) fn forget(&mut self, key: &RecordKey) {
        self.removals.0 += 1;
        self.young.remove(key);
        self.old.remove(key);
    }

    /// What fell out for want of room, to be dropped when the lock is given back.
    pub(super) fn take_evicted(&mut self) -> Option<Generation> {
        self.evicted.take()
    }

    /// The entry of a key, which is young from now on.
    fn used(&mut self, key: &RecordKey) -> Option<&Entry> {
        if !self.young.entries.contains_key(key)
            && let Some(entry) = self.old.remove(key)
        {
            self.insert(*key, entry);
        }
        self.young.entries.get(key)
    }

    fn insert(&mut self, key: RecordKey, entry: Entry) {
        let bytes = entry.size_bytes();
        // Half a generation for one entry would leave no room for others.
        if bytes > self.max_bytes / 2 {
            return;
        }
        self.young.remove(&key);
        self.old.remove(&key);
        if self.young.bytes + bytes > self.max_bytes {
            let full = std::mem::take(&mut self.young);
            self.evicted = Some(std::mem::replace(&mut self.old, full));
        }
        self.young.bytes += bytes;
        self.young.entries.insert(key, entry);
    }
}

impl Generation {
    fn remove(&mut self, key: &RecordKey) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.bytes -= entry.size_bytes();
        Some(entry)
    }
}

impl Entry {
    /// What an entry without a response occupies: itself and its key, in a table that can be less than
    /// half full.
    const BASE_BYTES: usize = (size_of::<(RecordKey, Self)>() + 1) * 2;

    fn size_bytes(&self) -> usize {
        let response = match self {
            Self::Replayed => 0,
            Self::Kept(kept) => kept.response.size_bytes(),
        };
        Self::BASE_BYTES + response
    }
}

impl Kept {
    /// What a claim of this record comes to.
    pub(super) fn answer(&self, fingerprint: &Fingerprint) -> Claim {
        if self.fingerprint == *fingerprint {
            Claim::Completed(Arc::clone(&self.response))
        } else {
            Claim::Mismatch
        }
    }
}
