//! What a claim is asked for with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::Described;
use super::calls::Calls;
use crate::fingerprint::Fingerprint;
use crate::observer::{Event, Observers};
use crate::record::Owner;
use crate::record::progress::BESIDE_OTHERS;
use crate::store::transaction::ASK_AGAIN;
use crate::store::{Claim, ClaimRequest, Renewal, StoreError};

/// What was claimed, as it can be claimed again.
#[derive(Clone, Debug)]
pub(super) struct ClaimTerms {
    pub(super) owner: Owner,
    pub(super) fingerprint: Fingerprint,
    pub(super) operation: Described,
    pub(super) lease: Duration,
    pub(super) ttl: Duration,
    /// How long its record outlives its lease.
    retention: Duration,
    /// It is one of several of its request.
    is_beside_others: bool,
    /// Shared by all clones.
    seen: Arc<Seen>,
}

/// What was seen of a claim.
#[derive(Debug, Default)]
struct Seen {
    /// Questions for it that have got no reply, and may arrive at any time.
    questions: AtomicU32,
    /// One of those questions was for a take-over.
    has_lost_take_over: AtomicBool,
    /// It was found lost, and that was told.
    is_lost: AtomicBool,
}

impl ClaimTerms {
    pub(super) fn new(
        owner: Owner,
        fingerprint: Fingerprint,
        operation: &Described,
        lease: Duration,
        (ttl, retention): (Duration, Duration),
    ) -> Self {
        Self {
            owner,
            fingerprint,
            operation: operation.clone(),
            lease,
            ttl,
            retention,
            is_beside_others: false,
            seen: Arc::default(),
        }
    }

    /// The same for one of several records of its request, where there are several: a new one says so.
    pub(super) fn beside_others(mut self, are_others: bool) -> Self {
        self.is_beside_others = are_others;
        self
    }

    /// Whether a question for it got no reply, or none yet.
    pub(super) fn has_lost_question(&self) -> bool {
        self.seen.questions.load(Ordering::SeqCst) > 0
    }

    /// What arrives late may take over a record that has crashed by then.
    pub(super) fn has_lost_take_over(&self) -> bool {
        self.seen.has_lost_take_over.load(Ordering::Acquire)
    }

    /// Asks for this claim, once. What a recovery function of this process decides about is in flight.
    pub(super) async fn ask(
        &self,
        calls: &Calls,
        take_over: Option<u32>,
    ) -> Result<Claim, StoreError> {
        let is_decided_about = || calls.recoveries().has_begun(&self.owner.key);
        match self.ask_again(calls, take_over).await? {
            Claim::Abandoned { .. } if take_over.is_none() && is_decided_about() => {
                let lease_left = ASK_AGAIN;
                Ok(Claim::InFlight { lease_left })
            }
            claim => Ok(claim),
        }
    }

    /// As [`ask`](Self::ask), of a claim that was held and may be lost. Its attempt has run, and need not wait for what a
    /// recovery function finds out about a later one.
    ///
    /// It is the only way to ask the store. A question is noted until it has got a reply, also where nothing waits for that
    /// any more; and giving the claim up makes sure that what arrives late holds nothing.
    pub(super) async fn ask_again(
        &self,
        calls: &Calls,
        take_over: Option<u32>,
    ) -> Result<Claim, StoreError> {
        self.note_question();
        let claim = calls.claim(&self.request(take_over)).await;
        if !claim.as_ref().is_err_and(StoreError::may_have_happened) {
            self.note_reply();
        } else if take_over.is_some() {
            self.seen.has_lost_take_over.store(true, Ordering::Release);
        }
        claim
    }

    /// It is about to be asked for.
    pub(super) fn note_question(&self) {
        self.seen.questions.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn note_reply(&self) {
        self.seen.questions.fetch_sub(1, Ordering::SeqCst);
    }

    /// The reply to one who does not complete the claim, and has noted that question. Where it was got it may be behind
    /// the completion, whose record had expired; so it stays noted, and is given up when the attempt is done.
    pub(super) fn note_claimed(&self, claimed: &Result<Claim, StoreError>) {
        if !matches!(claimed, Ok(Claim::Acquired { .. })) {
            self.note_reply();
        }
    }

    /// Tells that the claim was found lost: once, however often it is.
    pub(super) fn tell_lost(&self, observers: &Observers) {
        if self.seen.is_lost.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::warn!(record = %self.owner.key, operation = self.operation.shown(),
            "lost the claim before the response was stored");
        observers.tell(|| Event::ClaimLost {
            operation: self.operation.shown(),
            record: self.owner.key,
        });
    }

    pub(super) fn renewal(&self) -> Renewal {
        Renewal {
            owner: self.owner,
            lease: self.lease,
            retention: self.retention,
        }
    }

    pub(super) fn request(&self, take_over: Option<u32>) -> ClaimRequest<'_> {
        ClaimRequest {
            owner: self.owner,
            fingerprint: self.fingerprint,
            operation: self.operation.shown(),
            label: self.operation.label().map(|label| &**label),
            lease: self.lease,
            retention: self.retention,
            progress: match self.is_beside_others {
                true => &BESIDE_OTHERS,
                false => &[],
            },
            take_over,
        }
    }
}
