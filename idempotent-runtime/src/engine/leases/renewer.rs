//! Renewing the leases of one runtime, in batches.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::engine::calls::{Calls, lock};
use crate::engine::claim_terms::ClaimTerms;
use crate::engine::unwind::catch_unwind;
use crate::key::Uniform;
use crate::observer::Event;
use crate::record::Token;
use crate::store::{Claim, Renewal, Renewed, StoreError, StoreErrorKind};

/// The most renewals in one store call.
const BATCH: usize = 1000;

/// A batch of so few that fails as a whole is halved in any case: one locked record must not take the others
/// along where no other call tells that the store is well.
const FEW: usize = 8;

/// The most renewals of one lease that are on their way at a time, at least. More than one, so that a
/// store whose replies take long still gets one in time.
const LEAST_OUTSTANDING: u32 = 3;

/// The leases of one runtime.
#[derive(Debug)]
pub(super) struct Renewer {
    calls: Calls,
    retention: Duration,
    runtime: Handle,
    table: Mutex<Table>,
    /// The table has an earlier renewal than the task knows of, or the application is done.
    wake: Notify,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Table {
    leases: HashMap<Token, Lease, BuildHasherDefault<Uniform>>,
    /// When the task will look next; `None` while it waits to be woken.
    next_look: Option<Instant>,
    /// When a renewal that succeeded was asked for last.
    last_success: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Lease {
    claim: ClaimTerms,
    renew_at: Instant,
    /// How much sooner it may be renewed, together with others.
    slack: Duration,
    /// The lease cannot end before, by this process's clock: from when it was last asked for.
    valid_until: Instant,
    outstanding: u32,
    /// The most that may be: as many as are sent until the first one that gets no reply is given up. A
    /// few lost replies in a row do not keep a short lease from being renewed.
    most_outstanding: u32,
    /// The most renewals in a batch with it: smaller after a batch that failed as a whole.
    batch: usize,
    /// It is being claimed again: two such claims would each decide what the other one has decided already.
    is_reclaimed: bool,
}

/// The longest time between two renewals of one lease while none has succeeded, whether they fail or hang: a
/// third of the lease, and a second at most. Others rely on it before they take over
/// (`GRACE` in [`take_over`](crate::engine::take_over)).
fn longest_gap(lease: Duration) -> Duration {
    (lease / 3).clamp(Duration::from_millis(1), LONGEST_GAP)
}

const LONGEST_GAP: Duration = Duration::from_secs(1);

/// At most 30, however short the lease is.
fn most_outstanding(lease: Duration, limit: Duration) -> u32 {
    let gap = longest_gap(lease).as_millis().max(1);
    let sent = limit.as_millis().div_ceil(gap).min(29) + 1;
    u32::try_from(sent).map_or(LEAST_OUTSTANDING, |sent| sent.max(LEAST_OUTSTANDING))
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
        asked_at: Instant,
        claim: Result<Claim, StoreError>,
    },
}

impl Renewer {
    pub(super) fn new(calls: Calls, retention: Duration, runtime: Handle) -> Self {
        Self {
            calls,
            retention,
            runtime,
            table: Mutex::default(),
            wake: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// No lease is renewed any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn remove(&self, token: &Token) {
        lock(&self.table).leases.remove(token);
    }

    /// Until when the lease certainly lasts; `None` when the claim is known to be lost.
    pub(super) fn valid_until(&self, token: &Token) -> Option<Instant> {
        let table = lock(&self.table);
        table.leases.get(token).map(|lease| lease.valid_until)
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The task: renews until the application is done.
    pub(super) async fn run(&self) {
        let mut renewals = FuturesUnordered::new();
        let mut reclaims = FuturesUnordered::new();
        while !self.closed.load(Ordering::Acquire) {
            let next = self.plan(Instant::now());
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
                    for lost in self.renewed(asked) {
                        reclaims.push(self.reclaim(lost));
                    }
                }
                Some(Reply::Reclaimed {
                    token,
                    asked_at,
                    claim,
                }) => self.reclaimed(token, asked_at, &claim),
                None => {}
            }
            for batch in self.due(Instant::now()) {
                renewals.push(self.renew(batch));
            }
        }
    }

    pub(super) fn insert(&self, lease: Lease) {
        let is_earlier = {
            let mut table = lock(&self.table);
            let renew_at = lease.renew_at;
            table.leases.insert(lease.claim.owner.token, lease);
            let is_earlier = table.next_look.is_none_or(|next| renew_at < next);
            if is_earlier {
                table.next_look = Some(renew_at);
            }
            is_earlier
        };
        if is_earlier {
            self.wake.notify_one();
        }
    }

    /// Decides when to look next.
    ///
    /// With no lease left it is the time that was planned, if that is to come: most handlers are done
    /// before their lease is looked at, and the next claim need not wake the task again.
    fn plan(&self, now: Instant) -> Option<Instant> {
        let mut table = lock(&self.table);
        let waiting = |lease: &&Lease| lease.outstanding < lease.most_outstanding;
        let earliest = table.leases.values().filter(waiting);
        let earliest = earliest.map(|lease| lease.renew_at).min();
        table.next_look = earliest.or(table.next_look.filter(|next| *next > now));
        table.next_look
    }

    /// The batches that are due, or nearly: within a sixth of the lease, so that leases which began one
    /// after the other are renewed together. Only leases of the same order of length share one.
    fn due(&self, now: Instant) -> Vec<Vec<Renewal>> {
        let mut groups: BTreeMap<(u32, usize), Vec<Renewal>> = BTreeMap::new();
        let mut table = lock(&self.table);
        let is_due = |lease: &Lease, now| {
            lease.outstanding < lease.most_outstanding && lease.renew_at <= now
        };
        if !table.leases.values().any(|lease| is_due(lease, now)) {
            return Vec::new();
        }
        for lease in table.leases.values_mut() {
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
            lease.outstanding += 1;
            // Later, as soon as this one has succeeded.
            lease.renew_at = now + longest_gap(length);
            let class = length.as_millis().max(1).ilog2();
            groups
                .entry((class, lease.batch))
                .or_default()
                .push(Renewal {
                    owner: lease.claim.owner,
                    lease: length,
                    retention: self.retention,
                });
        }
        drop(table);
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
        let renewing = catch_unwind(self.calls.renew(&batch));
        let results = renewing.await.unwrap_or_else(|_| {
            tracing::error!(claims = batch.len(), "store panicked while renewing leases");
            vec![Err(self.calls.error(StoreErrorKind::Unavailable)); batch.len()]
        });
        let tokens = batch.iter().map(|renewal| renewal.owner.token).collect();
        Reply::Renewals(Asked {
            tokens,
            asked_at,
            results,
        })
    }

    /// Takes a batch's results, and returns the claims that the store does not know any more.
    fn renewed(&self, asked: Asked) -> Vec<ClaimTerms> {
        let now = Instant::now();
        let asked_at = asked.asked_at;
        let size = asked.tokens.len();
        let failed = asked.results.iter().filter(|it| it.is_err()).count();
        let has_failed = failed == size;
        if let Some(Err(error)) = asked.results.iter().find(|result| result.is_err()) {
            tracing::warn!(
                claims = size,
                error = error as &dyn std::error::Error,
                "could not renew leases, trying again"
            );
        }
        let mut lost = Vec::new();
        let (mut renewed, mut late, mut forgotten) = (0, 0, 0);
        let mut table = lock(&self.table);
        if !has_failed {
            table.last_success = table.last_success.max(Some(asked_at));
        }
        // If another call got through meanwhile it is not the store that is down, but something in
        // this batch.
        let is_odd = table.last_success.is_some_and(|last| last >= asked_at);
        for (token, result) in asked.tokens.iter().zip(asked.results) {
            let Some(lease) = table.leases.get_mut(token) else {
                // It was completed or given up meanwhile.
                continue;
            };
            lease.outstanding = lease.outstanding.saturating_sub(1);
            match result {
                Ok(Renewed::Renewed) => {
                    renewed += 1;
                    late += usize::from(lease.valid_until < asked_at);
                    lease.renewed(asked_at);
                }
                Ok(Renewed::Lost) => {
                    forgotten += 1;
                    // Before it is asked: it may be given up while that question is on its way.
                    lease.claim.note_lost_question();
                    if !std::mem::replace(&mut lease.is_reclaimed, true) {
                        lost.push(lease.claim.clone());
                    }
                }
                Err(_) => {
                    let pause = (lease.claim.lease / 12).min(LONGEST_GAP);
                    lease.renew_at = now + pause.max(Duration::from_millis(1));
                    lease.slack = Duration::ZERO;
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
        drop(table);
        self.calls.observers().tell(|| Event::Renewals {
            renewed,
            late,
            lost: forgotten,
            failed,
        });
        lost
    }

    /// Claims again what a renewal did not find: a store that has forgotten the record (a restart, a
    /// fail-over) gets it back, and no other attempt runs meanwhile.
    async fn reclaim(&self, claim: ClaimTerms) -> Reply {
        let asked_at = Instant::now();
        let reclaimed = catch_unwind(claim.ask(&self.calls, self.retention, None)).await;
        Reply::Reclaimed {
            token: claim.owner.token,
            asked_at,
            claim: reclaimed.unwrap_or_else(|_| Err(self.calls.error(StoreErrorKind::Unavailable))),
        }
    }

    fn reclaimed(&self, token: Token, asked_at: Instant, claim: &Result<Claim, StoreError>) {
        let mut table = lock(&self.table);
        let Some(lease) = table.leases.get_mut(&token) else {
            return;
        };
        lease.is_reclaimed = false;
        match claim {
            Ok(Claim::Acquired { .. }) => lease.renewed(asked_at),
            // Asked again in time: the other one may have done nothing, and release it.
            Ok(Claim::InFlight { .. }) => {
                lease.renew_at = Instant::now() + lease.claim.lease / 3;
                lease.slack = Duration::ZERO;
            }
            // The completion's reply was lost, or another attempt was faster: its completion finds out which.
            Ok(Claim::Completed(_)) => drop(table.leases.remove(&token)),
            // Asked again after the next renewal.
            Err(_) => {
                let pause = (lease.claim.lease / 12).min(LONGEST_GAP);
                lease.renew_at = Instant::now() + pause.max(Duration::from_millis(1));
            }
            Ok(_) => {
                if let Some(lease) = table.leases.remove(&token) {
                    drop(table);
                    lease.claim.tell_lost(self.calls.observers());
                }
            }
        }
    }
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

    fn renewed(&mut self, asked_at: Instant) {
        self.valid_until = self.valid_until.max(asked_at + self.claim.lease);
        self.renew_at = self.renew_at.max(asked_at + self.claim.lease / 3);
        self.slack = self.claim.lease / 6;
        self.batch = BATCH.min(self.batch * 2);
    }
}
