//! One record of the in-process store, and what each operation does to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::expiry::ExpiryQueue;
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{Owner, Record, RecordState, StoredResponse, Token};
use crate::store::{Claim, ClaimRequest, Completion, Progress, Renewal};

/// Always used under its shard's lock, so that each method is one atomic step.
#[derive(Debug)]
pub(super) struct Entry {
    fingerprint: Fingerprint,
    token: Token,
    attempt: u32,
    created_at: Duration,
    lease_until: Duration,
    pub(super) expires_at: Duration,
    /// The second under which the expiry queue has this record.
    pub(super) queued: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Running(Running),
    Completed(Arc<StoredResponse>),
}

/// What few records have; boxed where that keeps all of them small.
#[derive(Debug, Default)]
struct Running {
    /// From the first waiter on.
    waiters: Option<Arc<Notify>>,
    /// From the first time that some was saved on.
    progress: Option<Box<Bytes>>,
}

impl Entry {
    /// What a record without its response occupies: itself and its key in a table that is at most
    /// seven eighths full, and its place in the expiry queue.
    pub(super) const BASE_BYTES: usize =
        (size_of::<Self>() + size_of::<RecordKey>()) * 3 / 2 + size_of::<RecordKey>() * 2;

    pub(super) fn claimed(request: &ClaimRequest, now: Duration) -> Self {
        Self {
            fingerprint: request.fingerprint,
            token: request.owner.token,
            attempt: 1,
            created_at: now,
            lease_until: now + request.lease,
            expires_at: now + request.ttl,
            queued: ExpiryQueue::second(now + request.ttl),
            state: State::Running(Running::default()),
        }
    }

    pub(super) fn is_expired(&self, now: Duration) -> bool {
        now >= self.expires_at
    }

    /// Whether this owner may write: its token, still running, not expired.
    pub(super) fn is_held_by(&self, owner: &Owner, now: Duration) -> bool {
        matches!(self.state, State::Running(_))
            && self.token == owner.token
            && !self.is_expired(now)
    }

    /// Steps 2 to 7 of [`Store::claim`](crate::store::Store::claim).
    pub(super) fn claim(&mut self, request: &ClaimRequest, now: Duration) -> Claim {
        let age = now.saturating_sub(self.created_at);
        if self.fingerprint != request.fingerprint {
            return Claim::Mismatch;
        }
        if let State::Completed(response) = &self.state {
            return Claim::Completed(Arc::clone(response));
        }
        if self.token == request.owner.token {
            return Claim::Acquired {
                attempt: self.attempt,
                age,
            };
        }
        if now < self.lease_until {
            return Claim::InFlight {
                lease_left: self.lease_until - now,
            };
        }
        if request.take_over != Some(self.attempt) {
            return Claim::Abandoned {
                attempt: self.attempt,
                age,
            };
        }
        self.token = request.owner.token;
        self.attempt += 1;
        self.lease_until = now + request.lease;
        self.expires_at = now + request.ttl;
        self.wake();
        Claim::Acquired {
            attempt: self.attempt,
            age,
        }
    }

    /// Says whether the claim was this owner's to renew.
    pub(super) fn renew(&mut self, renewal: &Renewal, now: Duration) -> bool {
        let held = self.is_held_by(&renewal.owner, now);
        if held {
            self.lease_until = now + renewal.lease;
            // The queue is not told: it finds out when it comes to the old expiry.
            self.expires_at = self.expires_at.max(self.lease_until);
        }
        held
    }

    pub(super) fn save_progress(
        &mut self,
        owner: &Owner,
        progress: &Bytes,
        now: Duration,
    ) -> Progress {
        if !self.is_held_by(owner, now) {
            return Progress::Lost;
        }
        let is_longer = progress.len() > self.progress().len();
        if let (State::Running(running), true) = (&mut self.state, is_longer) {
            running.progress = Some(Box::new(Bytes::copy_from_slice(progress)));
        }
        Progress::Saved
    }

    fn progress(&self) -> Bytes {
        match &self.state {
            State::Running(running) => running.progress.as_deref().cloned().unwrap_or_default(),
            State::Completed(_) => Bytes::new(),
        }
    }

    pub(super) fn complete(
        &mut self,
        owner: &Owner,
        response: &mut Arc<StoredResponse>,
        now: Duration,
    ) -> Completion {
        if self.token != owner.token || self.is_expired(now) {
            return Completion::Lost;
        }
        if matches!(self.state, State::Completed(_)) {
            return Completion::AlreadyMine;
        }
        self.wake();
        self.state = State::Completed(unshared(response));
        Completion::Stored
    }

    pub(super) fn record(&self, now: Duration) -> Option<Record> {
        if self.is_expired(now) {
            return None;
        }
        let state = match &self.state {
            State::Completed(response) => RecordState::Completed(Arc::clone(response)),
            State::Running(_) if now < self.lease_until => RecordState::Running {
                lease_left: self.lease_until - now,
            },
            State::Running(_) => RecordState::Abandoned,
        };
        Some(Record {
            fingerprint: self.fingerprint,
            attempt: self.attempt,
            age: now.saturating_sub(self.created_at),
            expires_in: self.expires_at - now,
            state,
            progress: self.progress(),
        })
    }

    /// Resolves at the next change; `None` when nothing will change any more.
    pub(super) fn changed(&mut self) -> Option<OwnedNotified> {
        match &mut self.state {
            State::Running(running) => {
                let notify = running.waiters.get_or_insert_with(Arc::default);
                Some(Arc::clone(notify).notified_owned())
            }
            State::Completed(_) => None,
        }
    }

    /// Wakes all who wait for a change.
    pub(super) fn wake(&self) {
        if let State::Running(Running {
            waiters: Some(waiters),
            ..
        }) = &self.state
        {
            waiters.notify_waiters();
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        let response = match &self.state {
            State::Completed(response) => response.size_bytes(),
            State::Running(_) => self.progress().len(),
        };
        Self::BASE_BYTES + response
    }
}

/// The response with a body of its own: ten bytes cut out of an upload would keep all of it alive,
/// and no bound would know.
fn unshared(response: &mut Arc<StoredResponse>) -> Arc<StoredResponse> {
    let body = response.body.as_deref().map(Bytes::copy_from_slice);
    Arc::make_mut(response).body = body;
    Arc::clone(response)
}
