//! The contract of a store, once more and as plainly as possible, with a history of each record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use idempotent_runtime::store::{
    Acquired, Claim, Completion, Progress, Purged, PurgedClaim, Release, Renewal, Renewed,
};
use idempotent_runtime::{
    Fingerprint, Owner, Record, RecordKey, RecordState, StoredResponse, Token,
};

use crate::link::ClaimOf;
use crate::plan::Millis;

pub type LifeId = usize;

/// The records as they are, by the store's clock.
#[derive(Debug, Default)]
pub struct Model {
    entries: BTreeMap<RecordKey, Entry>,
    /// What each operation has changed, to be taken back by a failover.
    journal: Vec<(Millis, RecordKey, Option<Entry>)>,
    /// What has happened in the operation that is being executed.
    pub events: Vec<StoreEvent>,
    next_life: LifeId,
}

/// What happened to a record.
#[derive(Clone, Debug)]
pub enum StoreEvent {
    Created {
        key: RecordKey,
        life: LifeId,
        token: Token,
        /// The life before it, which has expired.
        after: Option<Expired>,
    },
    TakenOver {
        key: RecordKey,
        life: LifeId,
        /// The attempt that was abandoned, and its token if it had not given up itself.
        attempt: u32,
        from: Option<Token>,
        by: Token,
    },
    Completed {
        life: LifeId,
        token: Token,
        response: Arc<StoredResponse>,
    },
    Released {
        key: RecordKey,
        life: LifeId,
    },
    Abandoned {
        life: LifeId,
    },
}

#[derive(Clone, Copy, Debug)]
pub struct Expired {
    pub life: LifeId,
    /// For how long it was there after the end of its lease, if it was not completed.
    pub abandoned_for: Option<Millis>,
}

#[derive(Clone, Debug)]
struct Entry {
    life: LifeId,
    fingerprint: Fingerprint,
    token: Option<Token>,
    attempt: u32,
    operation: Arc<str>,
    label: Option<Arc<str>>,
    created_at: Millis,
    lease_until: Millis,
    expires_at: Millis,
    progress: Vec<u8>,
    completed: Option<Arc<StoredResponse>>,
}

fn millis(duration: Duration) -> Millis {
    duration.as_millis() as Millis
}

fn time(millis: Millis) -> Duration {
    Duration::from_millis(millis)
}

impl Entry {
    fn is_held_by(&self, owner: &Owner, now: Millis) -> bool {
        self.completed.is_none() && self.token == Some(owner.token) && now < self.expires_at
    }

    fn set_lease(&mut self, lease: Duration, retention: Duration, now: Millis) {
        self.lease_until = now + millis(lease);
        self.expires_at = self.lease_until + millis(retention);
    }
}

impl Model {
    /// Remembers an entry that is about to change.
    fn note(&mut self, key: &RecordKey, now: Millis) {
        let before = self.entries.get(key).cloned();
        self.journal.push((now, *key, before));
    }

    fn held(&mut self, owner: &Owner, now: Millis) -> Option<&mut Entry> {
        let is_held = self.entries.get(&owner.key)?.is_held_by(owner, now);
        if is_held {
            self.note(&owner.key, now);
        }
        self.entries.get_mut(&owner.key).filter(|_| is_held)
    }

    pub fn claim(&mut self, request: &ClaimOf, now: Millis) -> Claim {
        let key = request.owner.key;
        let mut after = None;
        if let Some(entry) = self.entries.get(&key) {
            if now < entry.expires_at {
                return self.claim_existing(request, now);
            }
            let since = now.saturating_sub(entry.lease_until);
            after = Some(Expired {
                life: entry.life,
                abandoned_for: entry.completed.is_none().then_some(since),
            });
        }
        self.note(&key, now);
        let life = self.next_life;
        self.next_life += 1;
        let mut entry = Entry {
            life,
            fingerprint: request.fingerprint,
            token: Some(request.owner.token),
            attempt: 1,
            operation: Arc::clone(&request.operation),
            label: request.label.clone(),
            created_at: now,
            lease_until: now,
            expires_at: now,
            progress: request.progress.clone(),
            completed: None,
        };
        entry.set_lease(request.lease, request.retention, now);
        self.entries.insert(key, entry);
        self.events.push(StoreEvent::Created {
            key,
            life,
            token: request.owner.token,
            after,
        });
        Claim::Acquired(Acquired {
            attempt: 1,
            age: Duration::ZERO,
        })
    }

    fn claim_existing(&mut self, request: &ClaimOf, now: Millis) -> Claim {
        let key = request.owner.key;
        let entry = &self.entries[&key];
        let age = time(now.saturating_sub(entry.created_at));
        let attempt = entry.attempt;
        if entry.fingerprint != request.fingerprint {
            return Claim::Mismatch;
        }
        if let Some(response) = &entry.completed {
            return Claim::Completed(Arc::clone(response));
        }
        if entry.token == Some(request.owner.token) {
            return Claim::Acquired(Acquired { attempt, age });
        }
        if now < entry.lease_until {
            let lease_left = time(entry.lease_until - now);
            return Claim::InFlight { lease_left };
        }
        if request.take_over != Some(attempt) {
            return Claim::Abandoned { attempt, age };
        }
        let event = StoreEvent::TakenOver {
            key,
            life: entry.life,
            attempt,
            from: entry.token,
            by: request.owner.token,
        };
        self.events.push(event);
        self.note(&key, now);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.token = Some(request.owner.token);
            entry.attempt += 1;
            entry.set_lease(request.lease, request.retention, now);
        }
        let attempt = attempt + 1;
        Claim::Acquired(Acquired { attempt, age })
    }

    pub fn renew(&mut self, renewal: &Renewal, now: Millis) -> Renewed {
        match self.held(&renewal.owner, now) {
            Some(entry) => {
                entry.set_lease(renewal.lease, renewal.retention, now);
                Renewed::Renewed
            }
            None => Renewed::Lost,
        }
    }

    pub fn save_progress(
        &mut self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
        now: Millis,
    ) -> Progress {
        let Some(entry) = self.held(owner, now) else {
            return Progress::Lost;
        };
        let stored_bytes = entry.progress.len();
        if stored_bytes < offset {
            return Progress::Behind { stored_bytes };
        }
        let known = (stored_bytes - offset).min(bytes.len());
        entry.progress.extend_from_slice(&bytes[known..]);
        Progress::Saved
    }

    pub fn complete(
        &mut self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
        now: Millis,
    ) -> Completion {
        match self.entries.get(&owner.key) {
            Some(entry) if entry.token == Some(owner.token) && now < entry.expires_at => {
                if entry.completed.is_some() {
                    return Completion::AlreadyCompleted;
                }
            }
            _ => return Completion::Lost,
        }
        self.note(&owner.key, now);
        let entry = self.entries.get_mut(&owner.key).unwrap();
        entry.completed = Some(Arc::clone(response));
        entry.progress.clear();
        entry.expires_at = now + millis(ttl);
        self.events.push(StoreEvent::Completed {
            life: entry.life,
            token: owner.token,
            response: Arc::clone(response),
        });
        Completion::Stored
    }

    pub fn release(&mut self, owner: &Owner, now: Millis) -> Release {
        let Some(entry) = self.held(owner, now) else {
            return Release::Lost;
        };
        let (key, life) = (owner.key, entry.life);
        self.events.push(StoreEvent::Released { key, life });
        self.entries.remove(&key);
        Release::Released
    }

    pub fn abandon(&mut self, owner: &Owner, now: Millis) -> Release {
        let Some(entry) = self.held(owner, now) else {
            return Release::Lost;
        };
        entry.token = None;
        entry.lease_until = entry.lease_until.min(now);
        let life = entry.life;
        self.events.push(StoreEvent::Abandoned { life });
        Release::Released
    }

    pub fn give_grace(
        &mut self,
        key: &RecordKey,
        attempt: u32,
        (grace, retention): (Duration, Duration),
        now: Millis,
    ) -> bool {
        let entry = self.entries.get_mut(key).filter(|entry| {
            entry.completed.is_none()
                && entry.token.is_some()
                && entry.attempt == attempt
                && entry.lease_until <= now
                && now < entry.expires_at
        });
        let Some(entry) = entry else {
            return false;
        };
        entry.set_lease(grace, retention, now);
        true
    }

    pub fn get(&self, key: &RecordKey, now: Millis) -> Option<Record> {
        let entry = self
            .entries
            .get(key)
            .filter(|entry| now < entry.expires_at)?;
        let state = match &entry.completed {
            Some(response) => RecordState::Completed(Arc::clone(response)),
            None if now < entry.lease_until => RecordState::Running {
                lease_left: time(entry.lease_until - now),
            },
            None => RecordState::Abandoned,
        };
        Some(Record {
            fingerprint: entry.fingerprint,
            operation: Arc::clone(&entry.operation),
            label: entry.label.clone(),
            attempt: entry.attempt,
            age: time(now.saturating_sub(entry.created_at)),
            expires_in: time(entry.expires_at - now),
            state,
            progress: Bytes::copy_from_slice(&entry.progress),
        })
    }

    pub fn life(&self, key: &RecordKey) -> Option<LifeId> {
        self.entries.get(key).map(|entry| entry.life)
    }

    pub fn keys(&self) -> Vec<RecordKey> {
        self.entries.keys().copied().collect()
    }

    pub fn remove(&mut self, key: &RecordKey, now: Millis) -> bool {
        self.note(key, now);
        let removed = self.entries.remove(key);
        removed.is_some_and(|entry| now < entry.expires_at)
    }

    /// Expired records stay where they are, so that the next life knows how the last one ended; they
    /// are absent to everybody else.
    pub fn purge(&mut self, limit: usize, now: Millis) -> Purged {
        let expired = self.entries.iter_mut();
        let expired = expired.filter(|(_, entry)| entry.expires_at <= now && entry.expires_at > 0);
        let mut purged = Purged::default();
        for (key, entry) in expired.take(limit) {
            purged.records += 1;
            entry.expires_at = 0;
            if entry.completed.is_none() {
                purged.abandoned.push(PurgedClaim {
                    key: *key,
                    operation: Arc::clone(&entry.operation),
                });
            }
        }
        purged
    }

    /// Takes back what was written after that time, and says which records that concerns.
    pub fn forget_since(&mut self, since: Millis) -> Vec<RecordKey> {
        let mut forgotten = Vec::new();
        while let Some((_, key, before)) = self.journal.pop_if(|(at, ..)| *at > since) {
            match before {
                Some(entry) => self.entries.insert(key, entry),
                None => self.entries.remove(&key),
            };
            forgotten.push(key);
        }
        forgotten.sort_unstable();
        forgotten.dedup();
        forgotten
    }
}
