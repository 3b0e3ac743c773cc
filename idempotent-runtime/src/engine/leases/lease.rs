//! One lease, and when it is renewed.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::claim_terms::ClaimTerms;

/// The most renewals in one store call.
pub(super) const BATCH: usize = 1000;

/// How many renewals of one lease are on their way where none is answered: so many gaps after it was sent, one is given
/// up. What takes longer would no longer keep a short lease, and a long one has been renewed by another.
const MOST_OUTSTANDING: u32 = 30;

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) claim: ClaimTerms,
    pub(super) renew_at: Instant,
    /// How much sooner it may be renewed, together with others.
    pub(super) slack: Duration,
    /// The lease cannot end before, by this process's clock: from when it was last asked for.
    pub(super) valid_until: Instant,
    pub(super) outstanding: u32,
    /// The claim was not in the store then. What the store was asked before says nothing of it any more.
    missed_at: Option<Instant>,
    /// The most renewals in a batch with it: smaller after a batch that failed as a whole.
    pub(super) batch: usize,
    /// It is being claimed again: two such claims would each decide what the other one has decided already.
    pub(super) is_reclaimed: bool,
    /// Another attempt has the record, or had it last: it is not renewed, unless its owner finds that the claim is its own again.
    pub(super) is_given_up: bool,
}

/// The longest time between two renewals of one lease while none has succeeded, whether they fail or hang: a
/// third of the lease, and a second at most. Others rely on it before they take over
/// (`GRACE` in [`take_over`](crate::engine::take_over)).
pub(super) fn longest_gap(lease: Duration) -> Duration {
    (lease / 3).clamp(Duration::from_millis(1), LONGEST_GAP)
}

pub(super) const LONGEST_GAP: Duration = Duration::from_secs(1);

/// How long one of them may take, whatever a store call may: none has to wait for it to be sent.
pub(super) fn renewal_limit(lease: Duration) -> Duration {
    longest_gap(lease) * MOST_OUTSTANDING
}

impl Lease {
    /// Of a claim that was asked for at `asked_at`.
    pub(super) fn new(claim: ClaimTerms, asked_at: Instant) -> Self {
        Self {
            renew_at: asked_at + claim.lease / 3,
            slack: claim.lease / 6,
            valid_until: asked_at + claim.lease,
            outstanding: 0,
            missed_at: None,
            claim,
            batch: BATCH,
            is_reclaimed: false,
            is_given_up: false,
        }
    }

    /// The store does not know the claim: until it does, the lease is not known to last.
    pub(super) fn missed(&mut self) {
        let now = Instant::now();
        self.missed_at = Some(now);
        self.valid_until = self.valid_until.min(now);
    }

    /// It is to be renewed at once, whatever the store has said before.
    pub(super) fn take_up_again(&mut self) {
        self.is_given_up = false;
        self.renew_at = Instant::now();
        self.slack = Duration::ZERO;
    }

    /// A question got no answer. The next one is never later for that: one that hangs fails when others are due.
    pub(super) fn failed(&mut self) {
        let pause = (self.claim.lease / 12).clamp(Duration::from_millis(1), LONGEST_GAP);
        self.renew_at = self.renew_at.min(Instant::now() + pause);
        self.slack = Duration::ZERO;
    }

    /// By a renewal or a claim that was asked for at `asked_at`.
    pub(super) fn renewed(&mut self, asked_at: Instant) {
        if self.missed_at.is_some_and(|missed_at| asked_at < missed_at) {
            return;
        }
        self.valid_until = self.valid_until.max(asked_at + self.claim.lease);
        self.renew_at = self.renew_at.max(asked_at + self.claim.lease / 3);
        self.slack = self.claim.lease / 6;
        self.batch = BATCH.min(self.batch * 2);
    }
}
