//! A part of the cache: what is known of some keys, and what is being read of them, under one lock.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::fingerprint::Fingerprint;
use crate::key::{RecordKey, Uniform};
use crate::record::CompactResponse;
use crate::store::{Claim, StoreError};

/// Two generations of entries. What is used goes into the young one; when that is full it becomes the
/// old one, and what was old and was not used meanwhile is gone. So nothing is moved at every use, and
/// nothing is searched for to make room.
#[derive(Debug)]
pub(super) struct Shard {
    young: Generation,
    old: Generation,
    /// What fell out, until it is taken.
    evicted: Option<Generation>,
    /// The most bytes in one generation.
    max_bytes: usize,
    /// The keys that are being read, each once.
    flights: HashMap<RecordKey, Flight, BuildHasherDefault<Uniform>>,
    next_flight: u64,
}

#[derive(Debug, Default)]
pub(super) struct Generation {
    entries: HashMap<RecordKey, Entry, BuildHasherDefault<Uniform>>,
    /// Of what the entries point to.
    bytes: usize,
}

#[derive(Debug)]
enum Entry {
    /// It was replayed, and how long it lives is not known.
    Replayed,
    Cached(Box<Cached>),
}

#[derive(Debug)]
struct Cached {
    record: Completed,
    /// Set while the store cannot be read: until when it is not asked again.
    retry_at: Option<Duration>,
}

/// A completed record.
#[derive(Clone, Debug)]
pub(super) struct Completed {
    pub(super) fingerprint: Fingerprint,
    pub(super) response: Arc<CompactResponse>,
    /// Until when it is answered from without asking; not after its expiry.
    pub(super) fresh_until: Duration,
    /// Until when the record lives at least.
    pub(super) expires_at: Duration,
}

/// What a read has come to: `None` when there is no completed record.
pub(super) type Outcome = Result<Option<Completed>, StoreError>;

/// A read that is under way.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) number: u64,
    pub(super) outcome: watch::Receiver<Option<Outcome>>,
}

/// What is known of a key.
#[derive(Debug)]
pub(super) enum Look {
    /// What a claim comes to.
    Answer(Claim),
    /// It is worth being read, and this caller is to read it.
    Lead(Lead),
    /// Another caller reads it already.
    Follow {
        flight: Flight,
        /// Whether there is an answer if the store has none.
        is_cached: bool,
    },
    /// Nothing.
    Unknown,
}

/// The right to read a key, and to tell all waiters of that.
#[derive(Debug)]
pub(super) struct Lead {
    pub(super) number: u64,
    pub(super) outcome: watch::Sender<Option<Outcome>>,
    pub(super) is_cached: bool,
}

impl Shard {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            young: Generation::default(),
            old: Generation::default(),
            evicted: None,
            max_bytes: max_bytes / 2,
            flights: HashMap::default(),
            next_flight: 0,
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.young.size_bytes() + self.old.size_bytes()
    }

    /// What a claim comes to without asking the store.
    pub(super) fn answer(
        &mut self,
        key: &RecordKey,
        fingerprint: &Fingerprint,
        now: Duration,
    ) -> Option<Claim> {
        let is_read = self.flights.contains_key(key);
        let Some(Entry::Cached(cached)) = self.used(key) else {
            return None;
        };
        let is_away = |at| now < at || is_read;
        if now < cached.record.fresh_until
            || now < cached.record.expires_at && cached.retry_at.is_some_and(is_away)
        {
            return Some(cached.record.answer(fingerprint));
        }
        None
    }

    /// What a claim comes to, or who is to ask the store.
    pub(super) fn look(
        &mut self,
        key: &RecordKey,
        fingerprint: &Fingerprint,
        now: Duration,
    ) -> Look {
        if let Some(claim) = self.answer(key, fingerprint, now) {
            return Look::Answer(claim);
        }
        let is_cached = match self.used(key) {
            None => return Look::Unknown,
            Some(Entry::Cached(cached)) if now >= cached.record.expires_at => {
                self.young.remove(key);
                return Look::Unknown;
            }
            Some(Entry::Cached(_)) => true,
            Some(Entry::Replayed) => false,
        };
        if let Some(flight) = self.flights.get(key) {
            return Look::Follow {
                flight: flight.clone(),
                is_cached,
            };
        }
        let number = self.next_flight;
        self.next_flight += 1;
        let (sender, outcome) = watch::channel(None);
        self.flights.insert(*key, Flight { number, outcome });
        Look::Lead(Lead {
            number,
            outcome: sender,
            is_cached,
        })
    }

    /// Notes that a key was replayed.
    pub(super) fn note(&mut self, key: &RecordKey) {
        if self.used(key).is_none() {
            self.insert(*key, Entry::Replayed);
        }
    }

    /// Ends a flight, and says whether what it has read is still to be believed: not if the key was
    /// forgotten since it began.
    pub(super) fn land(&mut self, key: &RecordKey, number: u64) -> bool {
        let is_current = self
            .flights
            .get(key)
            .is_some_and(|flight| flight.number == number);
        if is_current {
            self.flights.remove(key);
        }
        is_current
    }

    /// Keeps what was read.
    pub(super) fn keep(&mut self, key: RecordKey, record: Completed) {
        let retry_at = None;
        self.insert(key, Entry::Cached(Box::new(Cached { record, retry_at })));
    }

    /// Shows what is cached without asking until then, because the store cannot be read.
    pub(super) fn put_off(&mut self, key: &RecordKey, retry_at: Duration) {
        for generation in [&mut self.young, &mut self.old] {
            if let Some(Entry::Cached(cached)) = generation.entries.get_mut(key) {
                cached.retry_at = Some(retry_at);
            }
        }
    }

    /// What was cached, however old it is, if its record lives.
    pub(super) fn stale(
        &mut self,
        key: &RecordKey,
        fingerprint: &Fingerprint,
        now: Duration,
    ) -> Option<Claim> {
        match self.used(key) {
            Some(Entry::Cached(cached)) if now < cached.record.expires_at => {
                Some(cached.record.answer(fingerprint))
            }
            _ => None,
        }
    }

    /// Forgets a key that is removed, or has no completed record, and what is being read of it.
    pub(super) fn forget(&mut self, key: &RecordKey) {
        self.flights.remove(key);
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
        let bytes = entry.size_bytes() + Generation::PLACE;
        // Half a generation for one entry would leave no room for others.
        if bytes > self.max_bytes / 2 {
            return;
        }
        self.young.remove(&key);
        self.old.remove(&key);
        if self.young.size_bytes() + bytes > self.max_bytes {
            let full = std::mem::take(&mut self.young);
            self.evicted = Some(std::mem::replace(&mut self.old, full));
        }
        self.young.insert(key, entry);
    }
}

impl Generation {
    /// What an entry takes in a table that has just grown, and is a little less than half full.
    const PLACE: usize = Self::SLOT * 16 / 7;

    /// A slot of the table, and its control byte.
    const SLOT: usize = size_of::<(RecordKey, Entry)>() + 1;

    /// Its table is counted as it is, or as it will be when it has grown.
    fn size_bytes(&self) -> usize {
        let table = self.entries.capacity() * Self::SLOT * 8 / 7;
        self.bytes + table.max(self.entries.len() * Self::PLACE)
    }

    fn insert(&mut self, key: RecordKey, entry: Entry) {
        self.bytes += entry.size_bytes();
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &RecordKey) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.bytes -= entry.size_bytes();
        if self.entries.is_empty() {
            self.entries = HashMap::default();
        }
        Some(entry)
    }
}

impl Entry {
    /// What an entry occupies besides its place: a box, and a response that is counted by its own.
    fn size_bytes(&self) -> usize {
        const ALLOCATION: usize = 16;
        match self {
            Self::Replayed => 0,
            Self::Cached(cached) => {
                let counts = 2 * size_of::<usize>();
                size_of::<Cached>() + ALLOCATION + cached.record.response.size_bytes() + counts
            }
        }
    }
}

impl Completed {
    /// What a claim of this record comes to.
    pub(super) fn answer(&self, fingerprint: &Fingerprint) -> Claim {
        if self.fingerprint == *fingerprint {
            Claim::Completed(self.response.to_stored())
        } else {
            Claim::Mismatch
        }
    }
}
