//! One lease, and when it is renewed.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::claim_terms::ClaimTerms;

/// The most renewals in one store call.
pub(super) const BATCH: usize = 1000;

/// The most renewals of one lease that are on their way at a time, at least. More than one, so that a
/// store whose replies take long still gets one in time.
const LEAST_OUTSTANDING: u32 = 3;

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) claim: ClaimTerms,
    pub(super) renew_at: Instant,
    /// How much sooner it may be renewed, together with others.
    pub(super) slack: Duration,
    /// The lease cannot end before, by this process's clock: from when it was last asked for.
    pub(super) valid_until: Instant,
    pub(super) outstanding: u32,
    /// The most that may be: as many as are sent until the first one that gets no reply is given up. A
    /// few lost replies in a row do not keep a short lease from being renewed.
    most_outstanding: u32,
    /// The most renewals in a batch with it: smaller after a batch that failed as a whole.
    pub(super) batch: usize,
    /// It is being claimed again: two such claims would each decide what the other one has decided already.
    pub(super) is_reclaimed: bool,
}

/// The longest time between two renewals of one lease while none has succeeded, whether they fail or hang: a
/// third of the lease, and a second at most. Others rely on it before they take over
/// (`GRACE` in [`take_over`](crate::engine::take_over)).
pub(super) fn longest_gap(lease: Duration) -> Duration {
    (lease / 3).clamp(Duration::from_millis(1), LONGEST_GAP)
}

pub(super) const LONGEST_GAP: Duration = Duration::from_secs(1);

/// At most 30, however short the lease is.
fn most_outstanding(lease: Duration, limit: Duration) -> u32 {
    let gap = longest_gap(lease).as_millis().max(1);
    let sent = limit.as_millis().div_ceil(gap).min(29) + 1;
    u32::try_from(sent).map_or(LEAST_OUTSTANDING, |sent| sent.max(LEAST_OUTSTANDING))
}

impl Lease {
    /// Of a claim that was asked for at `asked_at`. A store call takes `limit` at most.
    pub(super) fn new(claim: ClaimTerms, asked_at: Instant, limit: Duration) -> Self {
        Self {
            renew_at: asked_at + claim.lease / 3,
            slack: claim.lease / 6,
            valid_until: asked_at + claim.lease,
            outstanding: 0,
            most_outstanding: most_outstanding(claim.lease, limit),
            claim,
            batch: BATCH,
            is_reclaimed: false,
        }
    }

    /// Whether another renewal may be sent.
    pub(super) fn is_waiting(&self) -> bool {
        self.outstanding < self.most_outstanding
    }

    /// By a renewal that was asked for at `asked_at`.
    pub(super) fn renewed(&mut self, asked_at: Instant) {
        self.valid_until = self.valid_until.max(asked_at + self.claim.lease);
        self.renew_at = self.renew_at.max(asked_at + self.claim.lease / 3);
        self.slack = self.claim.lease / 6;
        self.batch = BATCH.min(self.batch * 2);
    }
}
