//! Renewing the leases of one runtime, in batches.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::lease::{BATCH, Lease, longest_gap, renewal_limit};
use super::table::Table;
use crate::engine::calls::Calls;
use crate::engine::claim_terms::ClaimTerms;
use crate::observer::Event;
use crate::prompt;
use crate::record::Token;
use crate::store::{Claim, Renewal, Renewed, StoreError, StoreErrorKind};

/// A batch of so few that fails as a whole is halved in any case: one locked record must not take the others
/// along where no other call tells that the store is well.
const FEW: usize = 8;

/// How often a batch without a reply is sent in smaller ones, of a quarter of its size each time: a store that does not reply at all is not
/// sent a call for each lease.
const MOST_SPLITS: u32 = 3;

/// The leases of one runtime.
#[derive(Debug)]
pub(super) struct Renewer {
    calls: Calls,
    runtime: Handle,
    table: Table,
    /// The table has an earlier renewal than the task knows of, or the application is done.
    wake: Notify,
    closed: AtomicBool,
    /// Its own runtime has ended: no claim will come, and the task ends with the last lease.
    is_left: AtomicBool,
}

/// A batch that was asked for.
struct Asked {
    tokens: Vec<Token>,
    asked_at: Instant,
    results: Vec<Result<Renewed, StoreError>>,
}

/// What the task waits for.
enum Reply {
    Renewals(Asked),
    Reclaimed {
        token: Token,
        claim: Result<Claim, StoreError>,
    },
}

impl Renewer {
    pub(super) fn new(calls: Calls, runtime: Handle) -> Self {
        Self {
            calls,
            runtime,
            table: Table::new(),
            wake: Notify::new(),
            closed: AtomicBool::new(false),
            is_left: AtomicBool::new(false),
        }
    }

    /// No lease is renewed any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn remove(&self, token: &Token) {
        self.table.remove(token);
    }

    /// Whether the lease is known to last.
    pub(super) fn is_valid(&self, token: &Token) -> bool {
        let part = self.table.part(token);
        let lease = part.get(token);
        lease.is_some_and(|lease| !lease.is_given_up && Instant::now() < lease.valid_until)
    }

    /// It was renewed, or claimed again, by another's question of that time. Whether there is such a lease.
    pub(super) fn was_renewed(&self, token: &Token, asked_at: Instant) -> bool {
        let mut part = self.table.part(token);
        let Some(lease) = part.get_mut(token) else {
            return false;
        };
        let was_given_up = lease.is_given_up;
        if was_given_up {
            lease.take_up_again();
        }
        lease.renewed(asked_at);
        drop(part);
        if was_given_up {
            self.wake.notify_one();
        }
        true
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Said when its task has ended: whether it is to be served by another one. What was on its way got no reply.
    pub(super) fn is_left_with_leases(&self) -> bool {
        self.is_left.store(true, Ordering::Release);
        let mut has_leases = false;
        for mut part in self.table.parts() {
            for lease in part.values_mut() {
                lease.outstanding = 0;
                lease.is_reclaimed = false;
                has_leases = true;
            }
        }
        has_leases && !self.closed.load(Ordering::Acquire)
    }

    /// The task: renews until the application is done.
    pub(super) async fn run(&self) {
        let mut renewals = FuturesUnordered::new();
        let mut reclaims = FuturesUnordered::new();
        let mut last_success = None;
        while !self.closed.load(Ordering::Acquire) {
            if self.is_left.load(Ordering::Acquire) && self.table.is_empty() {
                return;
            }
            let next = self.table.plan(Instant::now());
            let time = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            let reply = tokio::select! {
                biased;
                Some(reply) = renewals.next() => Some(reply),
                Some(reply) = reclaims.next() => Some(reply),
                () = self.wake.notified() => None,
                () = time => None,
            };
            match reply {
                Some(Reply::Renewals(asked)) => {
                    for lost in self.renewed(asked, &mut last_success) {
                        reclaims.push(self.reclaim(lost));
                    }
                }
                Some(Reply::Reclaimed { token, claim }) => self.reclaimed(token, &claim),
                None => {}
            }
            for batch in self.due(Instant::now()) {
                renewals.push(self.renew(batch));
            }
        }
    }

    pub(super) fn insert(&self, lease: Lease) {
        if self.table.insert(lease) {
            self.wake.notify_one();
            // The handler of this claim is about to begin, and may block this thread.
            prompt::displace(&self.runtime);
        }
    }

    /// The batches that are due, or nearly: within a sixth of the lease, so that leases which began one
    /// after the other are renewed together. Only leases of the same order of length share one.
    fn due(&self, now: Instant) -> Vec<Vec<Renewal>> {
        let mut groups: BTreeMap<(u32, usize), Vec<Renewal>> = BTreeMap::new();
        let is_due = |lease: &Lease, now| lease.renew_at <= now && !lease.is_given_up;
        let mut parts = self.table.parts();
        if !parts.any(|part| part.values().any(|lease| is_due(lease, now))) {
            return Vec::new();
        }
        for mut part in self.table.parts() {
            for lease in part.values_mut() {
                // What is on its way is not sent once more before its time.
                let is_early = lease.outstanding == 0;
                let slack = if is_early {
                    lease.slack
                } else {
                    Duration::ZERO
                };
                if !is_due(lease, now + slack) {
                    continue;
                }
                let length = lease.claim.lease;
                // What is sent once more because there is no reply is sent with fewer others: one of them may be why.
                let batch = (lease.batch >> (2 * lease.outstanding.min(MOST_SPLITS))).max(1);
                lease.outstanding += 1;
                // Later, as soon as this one has succeeded.
                lease.renew_at = now + longest_gap(length);
                let class = length.as_millis().max(1).ilog2();
                groups
                    .entry((class, batch))
                    .or_default()
                    .push(lease.claim.renewal());
            }
        }
        let mut batches = Vec::new();
        for ((_, size), mut group) in groups {
            // In the order of their records, in which stores lock them.
            group.sort_unstable_by(|a, b| a.owner.key.as_bytes().cmp(b.owner.key.as_bytes()));
            batches.extend(group.chunks(size.max(1)).map(<[Renewal]>::to_vec));
        }
        batches
    }

    async fn renew(&self, batch: Vec<Renewal>) -> Reply {
        let asked_at = Instant::now();
        // Of about the same length, all of them.
        let shortest = batch.iter().map(|renewal| renewal.lease).min();
        let limit = shortest.map_or(Duration::MAX, renewal_limit);
        let results = self.calls.renew_within(limit, &batch).await;
        let tokens = batch.iter().map(|renewal| renewal.owner.token).collect();
        Reply::Renewals(Asked {
            tokens,
            asked_at,
            results,
        })
    }

    /// Takes a batch's results, and returns the claims that the store does not know any more.
    ///
    /// `last_success` is when a renewal that succeeded was asked for last.
    fn renewed(&self, asked: Asked, last_success: &mut Option<Instant>) -> Vec<ClaimTerms> {
        let asked_at = asked.asked_at;
        let size = asked.tokens.len();
        let failed = asked.results.iter().filter(|it| it.is_err()).count();
        let has_failed = failed == size;
        if let Some(Err(error)) = asked.results.iter().find(|result| result.is_err()) {
            tracing::warn!(
                claims = size,
                error = error as &dyn std::error::Error,
                "could not renew leases; retrying"
            );
        }
        let mut lost = Vec::new();
        let (mut renewed, mut late, mut forgotten) = (0, 0, 0);
        if !has_failed {
            *last_success = (*last_success).max(Some(asked_at));
        }
        // If another call got through meanwhile it is not the store that is down, but something in
        // this batch.
        let is_odd = last_success.is_some_and(|last| last >= asked_at);
        for (token, result) in asked.tokens.iter().zip(asked.results) {
            let mut part = self.table.part(token);
            let Some(lease) = part.get_mut(token) else {
                // It was completed or given up meanwhile.
                continue;
            };
            lease.outstanding = lease.outstanding.saturating_sub(1);
            match result {
                // What was given up since then is not asked for again.
                Ok(Renewed::Lost) | Err(_) if lease.is_given_up => {}
                Ok(Renewed::Renewed) => {
                    renewed += 1;
                    late += usize::from(lease.valid_until < asked_at);
                    lease.renewed(asked_at);
                }
                Ok(Renewed::Lost) => {
                    forgotten += 1;
                    lease.missed();
                    if !std::mem::replace(&mut lease.is_reclaimed, true) {
                        // Before it is asked: it may be given up while that question is on its way.
                        lease.claim.note_question();
                        lost.push(lease.claim.clone());
                    }
                }
                Err(_) => {
                    lease.failed();
                    lease.batch = if !has_failed {
                        1
                    } else if is_odd || lease.batch == BATCH || size <= FEW {
                        size.div_ceil(2)
                    } else {
                        lease.batch
                    };
                }
            }
        }
        self.calls.observers().tell(|| Event::Renewals {
            renewed,
            late,
            lost: forgotten,
            failed,
        });
        lost
    }

    /// Claims again what a renewal did not find: a store that has forgotten the record (a restart, a
    /// failover) gets it back, and no other attempt runs meanwhile.
    async fn reclaim(&self, claim: ClaimTerms) -> Reply {
        let asking = claim.ask_again(&self.calls, None);
        let claimed = timeout(renewal_limit(claim.lease), asking).await;
        let claimed = claimed.unwrap_or_else(|_| Err(self.calls.error(StoreErrorKind::TimedOut)));
        // One that has got no reply is noted there.
        claim.note_claimed(&claimed);
        Reply::Reclaimed {
            token: claim.owner.token,
            claim: claimed,
        }
    }

    fn reclaimed(&self, token: Token, claim: &Result<Claim, StoreError>) {
        let mut part = self.table.part(&token);
        let Some(lease) = part.get_mut(&token) else {
            return;
        };
        lease.is_reclaimed = false;
        match claim {
            // Again or still: one that the store still had is not renewed by that.
            Ok(Claim::Acquired { .. }) => lease.failed(),
            // Asked again in time: the other one may have done nothing, and release it.
            Ok(Claim::InFlight { .. }) => {
                lease.missed();
                lease.renew_at = Instant::now() + lease.claim.lease / 3;
                lease.slack = Duration::ZERO;
            }
            // A lost question of its own may take over yet.
            Ok(Claim::Abandoned { .. }) if lease.claim.has_lost_take_over() => {
                lease.missed();
                lease.renew_at = Instant::now() + longest_gap(lease.claim.lease);
                lease.slack = Duration::ZERO;
            }
            // The completion's reply was lost, or another attempt was faster: its completion finds out which.
            Ok(Claim::Completed(_)) => lease.is_given_up = true,
            // Asked again after the next renewal.
            Err(_) => lease.failed(),
            Ok(_) => {
                lease.is_given_up = true;
                let claim = lease.claim.clone();
                drop(part);
                claim.tell_lost(self.calls.observers());
            }
        }
    }
}
