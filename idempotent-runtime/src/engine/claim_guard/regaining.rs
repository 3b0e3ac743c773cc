//! A claim that was lost, and is asked for again.

use tokio::time::Instant;

use super::{ClaimGuard, Interrupted, interrupted};
use crate::store::{Claim, StoreError};

impl ClaimGuard {
    /// What became of the claim, which was lost. It is this attempt's again if the record is gone, or if a later attempt
    /// was abandoned.
    pub(super) async fn regain(&self) -> Result<Claim, Interrupted> {
        let asked_at = Instant::now();
        self.claim.tell_lost(self.engine.observers());
        let claim = self.claim_or_take_over().await;
        match &claim {
            // The renewing task has given it up for lost.
            Ok(Claim::Acquired(_)) => self.lease.held_again(&self.claim, asked_at),
            Err(error) if error.may_have_happened() => self.keep_in_case(asked_at),
            _ => {}
        }
        claim.map_err(|error| interrupted(Some(error), self.still_storing()))
    }

    async fn claim_or_take_over(&self) -> Result<Claim, StoreError> {
        match self.claim_again(None).await? {
            Claim::Abandoned { attempt, .. } => self.claim_again(Some(attempt)).await,
            claim => Ok(claim),
        }
    }

    /// Asks for a claim that was lost: an attempt that still has it gets it, and so does one that finds
    /// that the record is gone, because the store has lost it.
    async fn claim_again(&self, take_over: Option<u32>) -> Result<Claim, StoreError> {
        let calls = &self.engine.0.calls;
        self.claim.ask_again(calls, take_over).await
    }

    /// The claim was asked for without a reply, and may be this attempt's: it is renewed from now on, because another
    /// attempt takes an owner that renews nothing for dead. It is not known to last.
    fn keep_in_case(&self, asked_at: Instant) {
        let ended = asked_at.checked_sub(self.claim.lease);
        self.lease
            .held_again(&self.claim, ended.unwrap_or(self.claimed_at));
    }
}
