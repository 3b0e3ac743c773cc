//! One record of the in-process store, and what each operation does to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::expiry::Place;
use super::moment::Moment;
use super::operations::Operation;
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{CompactResponse, Owner, Record, RecordState, StoredResponse, Token};
use crate::store::{
    Acquired, Claim, ClaimRequest, Completion, ListedRecord, Progress, RecordStatus, Renewal,
};

/// Always used under its shard's lock, so that each method is one atomic step.
#[derive(Debug)]
pub(super) struct Entry {
    fingerprint: Fingerprint,
    /// Missing in a record whose claim was abandoned by its owner.
    token: Option<Token>,
    attempt: u32,
    operation: Arc<str>,
    label: Option<Arc<str>>,
    has_own_name: bool,
    /// Where the expiry queue has this record, once it has been put in.
    pub(super) queued: Place,
    created_at: Moment,
    lease_until: Moment,
    pub(super) expires_at: Moment,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Few have anything to be said of them.
    Running(Option<Box<Running>>),
    /// Boxed: a record that was larger would, with glibc's allocator, leave holes between those of requests.
    Completed(Box<CompactResponse>),
}

impl State {
    /// Of the response, or of the progress.
    fn contents_bytes(&self) -> usize {
        match self {
            Self::Running(running) => running.as_ref().map_or(0, |it| it.progress.len()),
            Self::Completed(response) => response.size_bytes(),
        }
    }
}

#[derive(Debug, Default)]
struct Running {
    /// From the first waiter on.
    waiters: Option<Arc<Notify>>,
    progress: Vec<u8>,
}

impl Running {
    fn with(progress: &[u8]) -> Box<Self> {
        Box::new(Self {
            waiters: None,
            progress: progress.to_vec(),
        })
    }

    fn size_bytes(&self) -> usize {
        let waiters = match self.waiters {
            Some(_) => size_of::<Notify>() + 2 * size_of::<usize>() + ALLOCATION,
            None => 0,
        };
        let progress = match self.progress.capacity() {
            0 => 0,
            bytes => bytes + ALLOCATION,
        };
        size_of::<Self>() + ALLOCATION + waiters + progress
    }
}

/// What an allocation takes besides what was asked for, about.
const ALLOCATION: usize = 16;

impl Entry {
    /// What a record without its response occupies: itself, its key in a table that is between seven
    /// sixteenths and seven eighths full, and its place in the expiry queue.
    pub(super) const BASE_BYTES: usize =
        size_of::<Self>() + size_of::<(RecordKey, Box<Self>)>() * 3 / 2 + Place::BYTES + ALLOCATION;

    pub(super) fn claimed(request: &ClaimRequest<'_>, operation: Operation, now: Moment) -> Self {
        let lease_until = now.after(request.lease);
        let expires_at = lease_until.after(request.retention);
        let running = (!request.progress.is_empty()).then(|| Running::with(request.progress));
        Self {
            fingerprint: request.fingerprint,
            token: Some(request.owner.token),
            attempt: 1,
            operation: operation.name,
            label: request.label.map(Arc::from),
            has_own_name: operation.is_own,
            queued: Place::default(),
            created_at: now,
            lease_until,
            expires_at,
            state: State::Running(running),
        }
    }

    pub(super) fn is_expired(&self, now: Moment) -> bool {
        now >= self.expires_at
    }

    /// Whether this owner may write: its token, still running, not expired.
    pub(super) fn is_held_by(&self, owner: &Owner, now: Moment) -> bool {
        matches!(self.state, State::Running(_))
            && self.token == Some(owner.token)
            && !self.is_expired(now)
    }

    /// Steps 2 to 7 of [`Store::claim`](crate::store::Store::claim).
    pub(super) fn claim(&mut self, request: &ClaimRequest<'_>, now: Moment) -> Claim {
        let age = now.since(self.created_at);
        if self.fingerprint != request.fingerprint {
            return Claim::Mismatch;
        }
        if let State::Completed(response) = &self.state {
            return Claim::Completed(response.to_stored());
        }
        if self.token == Some(request.owner.token) {
            return Claim::Acquired(Acquired {
                attempt: self.attempt,
                age,
            });
        }
        if now < self.lease_until {
            return Claim::InFlight {
                lease_left: self.lease_until.since(now),
            };
        }
        if request.take_over != Some(self.attempt) {
            return Claim::Abandoned {
                attempt: self.attempt,
                age,
            };
        }
        self.token = Some(request.owner.token);
        self.attempt += 1;
        self.lease_until = now.after(request.lease);
        self.expires_at = self.lease_until.after(request.retention);
        self.wake();
        Claim::Acquired(Acquired {
            attempt: self.attempt,
            age,
        })
    }

    /// The response, if it is the answer to this request.
    pub(super) fn replay(
        &self,
        fingerprint: &Fingerprint,
        now: Moment,
    ) -> Option<Arc<StoredResponse>> {
        match &self.state {
            State::Completed(response)
                if self.fingerprint == *fingerprint && !self.is_expired(now) =>
            {
                Some(response.to_stored())
            }
            State::Completed(_) | State::Running(_) => None,
        }
    }

    /// Says whether the claim was this owner's to renew.
    pub(super) fn renew(&mut self, renewal: &Renewal, now: Moment) -> bool {
        let held = self.is_held_by(&renewal.owner, now);
        if held {
            self.lease_until = now.after(renewal.lease);
            self.expires_at = self.lease_until.after(renewal.retention);
        }
        held
    }

    /// Says whether there is an owner that may be alive, and whose lease had ended.
    pub(super) fn give_grace(
        &mut self,
        attempt: u32,
        grace: Duration,
        retention: Duration,
        now: Moment,
    ) -> bool {
        let has_ended = matches!(self.state, State::Running(_))
            && self.token.is_some()
            && self.attempt == attempt
            && self.lease_until <= now
            && !self.is_expired(now);
        if has_ended {
            self.lease_until = now.after(grace);
            self.expires_at = self.lease_until.after(retention);
        }
        has_ended
    }

    /// Says whether the claim was this owner's to abandon.
    pub(super) fn abandon(&mut self, owner: &Owner, now: Moment) -> bool {
        let held = self.is_held_by(owner, now);
        if held {
            self.token = None;
            self.lease_until = self.lease_until.min(now);
            self.wake();
        }
        held
    }

    pub(super) fn save_progress(
        &mut self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
        now: Moment,
    ) -> Progress {
        if !self.is_held_by(owner, now) {
            return Progress::Lost;
        }
        let State::Running(running) = &mut self.state else {
            return Progress::Lost;
        };
        let running = running.get_or_insert_default();
        let Some(known) = running.progress.len().checked_sub(offset) else {
            return Progress::Behind {
                stored_bytes: running.progress.len(),
            };
        };
        running
            .progress
            .extend_from_slice(bytes.get(known..).unwrap_or_default());
        Progress::Saved
    }

    fn progress(&self) -> Bytes {
        match &self.state {
            State::Running(Some(running)) => Bytes::copy_from_slice(&running.progress),
            State::Running(None) | State::Completed(_) => Bytes::new(),
        }
    }

    pub(super) fn complete(
        &mut self,
        owner: &Owner,
        response: CompactResponse,
        ttl: Duration,
        now: Moment,
    ) -> Completion {
        if self.token != Some(owner.token) || self.is_expired(now) {
            return Completion::Lost;
        }
        if matches!(self.state, State::Completed(_)) {
            return Completion::AlreadyCompleted;
        }
        self.wake();
        self.state = State::Completed(Box::new(response));
        self.expires_at = now.after(ttl);
        Completion::Stored
    }

    /// The operation, if the record was never completed.
    pub(super) fn uncompleted(&self) -> Option<Arc<str>> {
        matches!(self.state, State::Running(_)).then(|| Arc::clone(&self.operation))
    }

    /// Whether the queue has it under a later second than it should. An expiry that moves to later is found when the queue
    /// comes to the old one.
    pub(super) fn is_queued_late(&self) -> bool {
        self.expires_at.next_second() < self.queued.second()
    }

    pub(super) fn record(&self, now: Moment) -> Option<Record> {
        if self.is_expired(now) {
            return None;
        }
        let state = match &self.state {
            State::Completed(response) => RecordState::Completed(response.to_stored()),
            State::Running(_) if now < self.lease_until => RecordState::Running {
                lease_left: self.lease_until.since(now),
            },
            State::Running(_) => RecordState::Abandoned,
        };
        Some(Record {
            fingerprint: self.fingerprint,
            operation: Arc::clone(&self.operation),
            label: self.label.clone(),
            attempt: self.attempt,
            age: now.since(self.created_at),
            expires_in: self.expires_at.since(now),
            state,
            progress: self.progress(),
        })
    }

    /// The record as it is listed; `None` once it has expired.
    pub(super) fn listed(&self, key: RecordKey, now: Moment) -> Option<ListedRecord> {
        if self.is_expired(now) {
            return None;
        }
        let (status, lease_left) = match &self.state {
            State::Completed(_) => (RecordStatus::Completed, Duration::ZERO),
            State::Running(_) if now < self.lease_until => {
                (RecordStatus::InFlight, self.lease_until.since(now))
            }
            State::Running(_) => (RecordStatus::Abandoned, Duration::ZERO),
        };
        Some(ListedRecord {
            attempt: self.attempt,
            label: self.label.clone(),
            age: now.since(self.created_at),
            lease_left,
            expires_in: self.expires_at.since(now),
            size_bytes: self.state.contents_bytes() as u64,
            ..ListedRecord::new(key, status, Arc::clone(&self.operation))
        })
    }

    /// Resolves at the next change; `None` when nothing will change any more.
    pub(super) fn changed(&mut self) -> Option<OwnedNotified> {
        match &mut self.state {
            State::Running(running) => {
                let running = running.get_or_insert_default();
                let notify = running.waiters.get_or_insert_with(Arc::default);
                Some(Arc::clone(notify).notified_owned())
            }
            State::Completed(_) => None,
        }
    }

    /// Wakes all that wait for a change.
    pub(super) fn wake(&self) {
        if let State::Running(Some(running)) = &self.state
            && let Some(waiters) = &running.waiters
        {
            waiters.notify_waiters();
        }
    }

    /// What it occupies, with all that it keeps alive.
    pub(super) fn size_bytes(&self) -> usize {
        let state = match &self.state {
            State::Completed(response) => response.size_bytes(),
            State::Running(Some(running)) => running.size_bytes(),
            State::Running(None) => 0,
        };
        let name = match self.has_own_name {
            true => self.operation.len() + 2 * size_of::<usize>() + ALLOCATION,
            false => 0,
        };
        let label = self
            .label
            .as_ref()
            .map_or(0, |label| label.len() + 2 * size_of::<usize>() + ALLOCATION);
        Self::BASE_BYTES + name + label + state
    }
}
