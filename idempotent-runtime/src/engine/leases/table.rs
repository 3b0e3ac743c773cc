//! The leases of one runtime.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use tokio::time::{Duration, Instant};

use super::lease::Lease;
use crate::engine::calls::lock;
use crate::key::Uniform;
use crate::record::Token;

/// Split by token, so that no lock holds up all claims.
#[derive(Debug)]
pub(super) struct Table {
    parts: [Mutex<Part>; PARTS],
    /// When the task will look next, in nanoseconds after `start`; [`NEVER`] while it waits to be woken.
    next_look: AtomicU64,
    start: Instant,
}

type Part = HashMap<Token, Lease, BuildHasherDefault<Uniform>>;

const PARTS: usize = 16;

const NEVER: u64 = u64::MAX;

impl Table {
    pub(super) fn new() -> Self {
        Self {
            parts: Default::default(),
            next_look: AtomicU64::new(NEVER),
            start: Instant::now(),
        }
    }

    /// Whether it is to be renewed before the task will look.
    pub(super) fn insert(&self, lease: Lease) -> bool {
        let renew_at = self.since_start(lease.renew_at);
        let token = lease.claim.owner.token;
        self.part(&token).insert(token, lease);
        // Behind the insertion: a look that has missed the lease has cleared the time before that.
        self.next_look.load(Ordering::Relaxed) > renew_at
            && self.next_look.fetch_min(renew_at, Ordering::Relaxed) > renew_at
    }

    pub(super) fn remove(&self, token: &Token) -> Option<Lease> {
        self.part(token).remove(token)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts().all(|part| part.is_empty())
    }

    /// The leases among which that of a token is.
    pub(super) fn part(&self, token: &Token) -> MutexGuard<'_, Part> {
        let ([_, _, _, _, byte, ..], [first, ..]) = (token.as_bytes(), &self.parts);
        // Not one by whose bits the table of a part finds its entries.
        lock(self.parts.get(usize::from(*byte) % PARTS).unwrap_or(first))
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = MutexGuard<'_, Part>> {
        self.parts.iter().map(lock)
    }

    /// Decides when to look next: when the first lease is to be renewed.
    ///
    /// With no lease left it is the time that was planned, if that is to come: most handlers are done
    /// before their lease is looked at, and the next claim need not wake the task again.
    pub(super) fn plan(&self, now: Instant) -> Option<Instant> {
        // What is inserted from here on wakes the task, where it is not found.
        let planned = self.next_look.swap(NEVER, Ordering::Relaxed);
        let earliest = self.parts();
        let earliest = earliest.filter_map(|part| {
            let kept = part.values().filter(|lease| !lease.is_given_up);
            kept.map(|lease| lease.renew_at).min()
        });
        let next = match earliest.min() {
            Some(earliest) => self.since_start(earliest),
            None if planned > self.since_start(now) => planned,
            None => NEVER,
        };
        let next = next.min(self.next_look.fetch_min(next, Ordering::Relaxed));
        (next != NEVER).then(|| self.start + Duration::from_nanos(next))
    }

    fn since_start(&self, time: Instant) -> u64 {
        let nanoseconds = time.saturating_duration_since(self.start).as_nanos();
        u64::try_from(nanoseconds).unwrap_or(NEVER)
    }
}
