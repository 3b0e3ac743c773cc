//! Leases: one task renews all that run, in batches. No request has a timer of its own.
//!
//! The task lives on the runtime of the handlers whose leases it renews. An application has one
//! runtime as a rule; where it has several (one a worker thread, one a test), each has its own task,
//! because a runtime that stands still or is gone must not take the others' leases with it.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::unwind::catch_unwind;
use crate::key::Uniform;
use crate::record::{Owner, Token};
use crate::store::{Renewal, Store, StoreError, StoreErrorKind};

/// The most renewals in one store call.
const BATCH: usize = 1000;

/// The claims of this process that are to be kept.
#[derive(Debug)]
pub(super) struct Leases {
    store: Arc<dyn Store>,
    store_timeout: Duration,
    renewers: Renewers,
}

/// One for each runtime: as a rule there is one, and never are there many.
type Renewers = Arc<Mutex<Vec<Arc<Renewer>>>>;

/// The leases of one runtime.
#[derive(Debug)]
struct Renewer {
    store: Arc<dyn Store>,
    store_timeout: Duration,
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
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    owner: Owner,
    length: Duration,
    renew_at: Instant,
}

/// Keeps one lease for as long as it lives.
#[derive(Debug)]
pub(super) struct LeaseGuard {
    renewer: Arc<Renewer>,
    token: Token,
}

impl Leases {
    pub(super) fn new(store: Arc<dyn Store>, store_timeout: Duration) -> Self {
        Self {
            store,
            store_timeout,
            renewers: Arc::default(),
        }
    }

    /// Keeps a claim that was asked for at `asked_at`, by the task of the runtime it runs on.
    pub(super) fn keep(&self, owner: Owner, length: Duration, asked_at: Instant) -> LeaseGuard {
        let renewer = self.renewer();
        renewer.insert(Lease {
            owner,
            length,
            renew_at: asked_at + length / 3,
        });
        LeaseGuard {
            renewer,
            token: owner.token,
        }
    }

    fn renewer(&self) -> Arc<Renewer> {
        let runtime = Handle::current();
        let mut renewers = lock(&self.renewers);
        let mut known = renewers.iter();
        if let Some(renewer) = known.find(|renewer| renewer.runtime.id() == runtime.id()) {
            return Arc::clone(renewer);
        }
        let renewer = Arc::new(Renewer {
            store: Arc::clone(&self.store),
            store_timeout: self.store_timeout,
            runtime,
            table: Mutex::default(),
            wake: Notify::new(),
            closed: AtomicBool::new(false),
        });
        renewers.push(Arc::clone(&renewer));
        let task = RunningTask {
            renewer: Arc::clone(&renewer),
            renewers: Arc::clone(&self.renewers),
        };
        renewer.runtime.spawn(renew_all(task));
        renewer
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        for renewer in lock(&self.renewers).iter() {
            renewer.closed.store(true, Ordering::Release);
            renewer.wake.notify_one();
        }
    }
}

impl LeaseGuard {
    /// Lets the lease end by itself.
    pub(super) fn stop(&self) {
        lock(&self.renewer.table).leases.remove(&self.token);
    }

    /// The runtime on which the claim was made.
    pub(super) fn runtime(&self) -> &Handle {
        &self.renewer.runtime
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Renewer {
    fn insert(&self, lease: Lease) {
        let is_earlier = {
            let mut table = lock(&self.table);
            table.leases.insert(lease.owner.token, lease);
            let is_earlier = table.next_look.is_none_or(|next| lease.renew_at < next);
            if is_earlier {
                table.next_look = Some(lease.renew_at);
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
    /// before their lease is looked at, and who comes next need not wake the task again.
    fn plan(&self, now: Instant) -> Option<Instant> {
        let mut table = lock(&self.table);
        let earliest = table.leases.values().map(|lease| lease.renew_at).min();
        table.next_look = earliest.or(table.next_look.filter(|next| *next > now));
        table.next_look
    }

    /// What is due, or nearly: within a sixth of its lease, so that leases which began one after
    /// the other are renewed together.
    fn due(&self, now: Instant) -> Vec<Renewal> {
        let table = lock(&self.table);
        let is_due = |lease: &&Lease| lease.renew_at <= now + lease.length / 6;
        let renewal = |lease: &Lease| Renewal {
            owner: lease.owner,
            lease: lease.length,
        };
        table.leases.values().filter(is_due).map(renewal).collect()
    }

    /// Renews, in a time that leaves room for another try before the shortest lease ends.
    async fn renew(&self, due: &[Renewal]) {
        let asked_at = Instant::now();
        let shortest = due
            .iter()
            .map(|renewal| renewal.lease)
            .min()
            .unwrap_or_default();
        let limit = self.store_timeout.min(shortest / 6);
        let renewal = catch_unwind(timed(&self.store, limit, self.store.renew(due)));
        match renewal.await {
            Ok(Ok(lost)) => self.renewed(due, &lost, asked_at),
            Ok(Err(error)) => {
                tracing::warn!(
                    claims = due.len(),
                    error = &error as &dyn std::error::Error,
                    "could not renew leases, trying again"
                );
                self.postpone(due);
            }
            Err(_) => {
                tracing::error!(claims = due.len(), "store panicked while renewing leases");
                self.postpone(due);
            }
        }
    }

    fn renewed(&self, due: &[Renewal], lost: &[Owner], asked_at: Instant) {
        let mut table = lock(&self.table);
        for renewal in due {
            if let Some(lease) = table.leases.get_mut(&renewal.owner.token) {
                lease.renew_at = asked_at + lease.length / 3;
            }
        }
        for owner in lost {
            // One that is no longer in the table was completed meanwhile, and not lost.
            if table.leases.remove(&owner.token).is_some() {
                tracing::warn!(record = %owner.key, "lost the claim of a request that still runs");
            }
        }
    }

    /// After a failure: again in a twelfth of the lease, at most a second.
    fn postpone(&self, due: &[Renewal]) {
        let now = Instant::now();
        let mut table = lock(&self.table);
        for renewal in due {
            if let Some(lease) = table.leases.get_mut(&renewal.owner.token) {
                lease.renew_at = now + (lease.length / 12).min(Duration::from_secs(1));
            }
        }
    }
}

/// Forgets its runtime when it ends, which is when the runtime does.
struct RunningTask {
    renewer: Arc<Renewer>,
    renewers: Renewers,
}

impl Drop for RunningTask {
    fn drop(&mut self) {
        lock(&self.renewers).retain(|renewer| !Arc::ptr_eq(renewer, &self.renewer));
    }
}

async fn renew_all(task: RunningTask) {
    let renewer = &*task.renewer;
    while !renewer.closed.load(Ordering::Acquire) {
        match renewer.plan(Instant::now()) {
            None => renewer.wake.notified().await,
            Some(next) => {
                tokio::select! {
                    () = sleep_until(next) => {}
                    () = renewer.wake.notified() => {}
                }
            }
        }
        for batch in renewer.due(Instant::now()).chunks(BATCH) {
            renewer.renew(batch).await;
        }
    }
}

/// Bounds a store call in time.
pub(super) async fn timed<T>(
    store: &Arc<dyn Store>,
    limit: Duration,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match timeout(limit, call).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::new(store.name(), StoreErrorKind::TimedOut)),
    }
}

/// Every change under these locks is one insert, one remove or one assignment, so a panic leaves
/// nothing half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
