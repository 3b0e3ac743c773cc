//! What a claim is asked for with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Described;
use super::calls::Calls;
use crate::fingerprint::Fingerprint;
use crate::record::Owner;
use crate::store::{Claim, ClaimRequest, StoreError};

/// What was claimed, as it can be claimed again.
#[derive(Clone, Debug)]
pub(super) struct ClaimTerms {
    pub(super) owner: Owner,
    pub(super) fingerprint: Fingerprint,
    pub(super) operation: Described,
    pub(super) lease: Duration,
    pub(super) ttl: Duration,
    /// A question for this claim got no reply, and may arrive at any time. Shared by all clones.
    has_lost_question: Arc<AtomicBool>,
}

impl ClaimTerms {
    pub(super) fn new(
        owner: Owner,
        fingerprint: Fingerprint,
        operation: &Described,
        lease: Duration,
        ttl: Duration,
    ) -> Self {
        Self {
            owner,
            fingerprint,
            operation: operation.clone(),
            lease,
            ttl,
            has_lost_question: Arc::default(),
        }
    }

    pub(super) fn has_lost_question(&self) -> bool {
        self.has_lost_question.load(Ordering::Acquire)
    }

    /// Asks the store for this claim, once: the only way to do so. A question without a reply is noted,
    /// and giving the claim up makes sure that what arrives late holds nothing.
    pub(super) async fn ask(
        &self,
        calls: &Calls,
        retention: Duration,
        take_over: Option<u32>,
    ) -> Result<Claim, StoreError> {
        let claim = calls.claim(&self.request(retention, take_over)).await;
        if claim.as_ref().is_err_and(StoreError::may_have_happened) {
            self.note_lost_question();
        }
        claim
    }

    pub(super) fn note_lost_question(&self) {
        self.has_lost_question.store(true, Ordering::Release);
    }

    pub(super) fn request(&self, retention: Duration, take_over: Option<u32>) -> ClaimRequest<'_> {
        ClaimRequest {
            owner: self.owner,
            fingerprint: self.fingerprint,
            operation: self.operation.stored(),
            label: self.operation.label().map(|label| &**label),
            lease: self.lease,
            retention,
            take_over,
        }
    }
}
