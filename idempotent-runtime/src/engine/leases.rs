//! Leases: one task per process renews all that run, in batches.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use crate::record::{Owner, Token};
use crate::store::{Renewal, Store, StoreError, StoreErrorKind};

/// The most renewals in one store call.
const BATCH: usize = 1000;

/// The claims of this process that are to be kept.
#[derive(Debug)]
pub(super) struct Leases {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    store_timeout: Duration,
    table: Mutex<Table>,
    /// The table has an earlier renewal than the task knows of, or the process is done.
    wake: Notify,
    task_runs: AtomicBool,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Table {
    leases: HashMap<Token, Lease>,
    /// When the task will look next; `None` while it waits to be woken.
    next_look: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    owner: Owner,
    length: Duration,
    renew_at: Instant,
    /// The end of the lease as this process knows it, never later than the store's.
    until: Instant,
}

/// Keeps one lease for as long as it lives.
#[derive(Debug)]
pub(super) struct LeaseGuard {
    shared: Arc<Shared>,
    token: Token,
    until: Instant,
}

impl Leases {
    pub(super) fn new(store: Arc<dyn Store>, store_timeout: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                store_timeout,
                table: Mutex::default(),
                wake: Notify::new(),
                task_runs: AtomicBool::new(false),
                closed: AtomicBool::new(false),
            }),
        }
    }

    /// Keeps a claim that was asked for at `asked_at`.
    pub(super) fn keep(&self, owner: Owner, length: Duration, asked_at: Instant) -> LeaseGuard {
        let lease = Lease {
            owner,
            length,
            renew_at: asked_at + length / 3,
            until: asked_at + length,
        };
        let is_earlier = {
            let mut table = self.shared.table();
            table.leases.insert(owner.token, lease);
            table.next_look.is_none_or(|next| lease.renew_at < next)
        };
        if is_earlier {
            self.shared.wake.notify_one();
        }
        if !self.shared.task_runs.swap(true, Ordering::AcqRel) {
            tokio::spawn(renew_all(RunningTask(Arc::clone(&self.shared))));
        }
        LeaseGuard {
            shared: Arc::clone(&self.shared),
            token: owner.token,
            until: lease.until,
        }
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }
}

impl LeaseGuard {
    /// The end of the lease, as far as this process knows.
    pub(super) fn until(&self) -> Instant {
        self.shared
            .table()
            .leases
            .get(&self.token)
            .map_or(self.until, |lease| lease.until)
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.shared.table().leases.remove(&self.token);
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change of the table is one insert, one remove or one assignment.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides when to look next.
    fn plan(&self) -> Option<Instant> {
        let mut table = self.table();
        table.next_look = table.leases.values().map(|lease| lease.renew_at).min();
        table.next_look
    }

    /// What is due, or nearly: within a sixth of its lease, so that leases which began one after
    /// the other are renewed together.
    fn due(&self, now: Instant) -> Vec<Renewal> {
        let table = self.table();
        let is_due = |lease: &&Lease| lease.renew_at <= now + lease.length / 6;
        let renewal = |lease: &Lease| Renewal {
            owner: lease.owner,
            lease: lease.length,
        };
        table.leases.values().filter(is_due).map(renewal).collect()
    }

    async fn renew(&self, due: &[Renewal]) {
        let asked_at = Instant::now();
        match timed(&self.store, self.store_timeout, self.store.renew(due)).await {
            Ok(lost) => self.renewed(due, &lost, asked_at),
            Err(error) => {
                tracing::warn!(
                    claims = due.len(),
                    error = &error as &dyn std::error::Error,
                    "could not renew leases, trying again"
                );
                self.postpone(due);
            }
        }
    }

    fn renewed(&self, due: &[Renewal], lost: &[Owner], asked_at: Instant) {
        let mut table = self.table();
        for renewal in due {
            if let Some(lease) = table.leases.get_mut(&renewal.owner.token) {
                lease.until = asked_at + lease.length;
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
        let mut table = self.table();
        for renewal in due {
            if let Some(lease) = table.leases.get_mut(&renewal.owner.token) {
                lease.renew_at = now + (lease.length / 12).min(Duration::from_secs(1));
            }
        }
    }
}

/// Says that the task runs, until it ends: also when the runtime it runs on is shut down.
struct RunningTask(Arc<Shared>);

impl Drop for RunningTask {
    fn drop(&mut self) {
        self.0.table().next_look = None;
        self.0.task_runs.store(false, Ordering::Release);
    }
}

async fn renew_all(task: RunningTask) {
    let shared = &*task.0;
    while !shared.closed.load(Ordering::Acquire) {
        match shared.plan() {
            None => shared.wake.notified().await,
            Some(next) => {
                tokio::select! {
                    () = sleep_until(next) => {}
                    () = shared.wake.notified() => {}
                }
            }
        }
        for batch in shared.due(Instant::now()).chunks(BATCH) {
            shared.renew(batch).await;
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
