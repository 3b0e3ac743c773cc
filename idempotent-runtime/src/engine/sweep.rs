//! Sweeping: expired records are absent whether or not they were swept, but they take room.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;

use super::calls::Calls;
use crate::store::backend::Backend;
use crate::store::{Purged, Store};

/// How many records one store call frees at most: small enough not to be in the way of requests.
const BATCH: usize = 1000;

/// Sees to it that there is one sweeping task, begun by the first claim.
#[derive(Debug)]
pub(super) struct Sweeper {
    every: Duration,
    runs: Arc<AtomicBool>,
    is_stopped: Arc<AtomicBool>,
}

/// Says that the task runs, until it ends: also when its runtime is shut down.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Sweeper {
    pub(super) fn new(every: Duration) -> Self {
        Self {
            every,
            runs: Arc::default(),
            is_stopped: Arc::default(),
        }
    }

    /// The task ends when it wakes up the next time.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }

    /// Costs nothing once the task runs.
    pub(super) fn run(&self, calls: &Calls) {
        if self.every.is_zero() || self.runs.load(Ordering::Acquire) {
            return;
        }
        if !self.runs.swap(true, Ordering::AcqRel) {
            let running = Running(Arc::clone(&self.runs));
            let is_stopped = Arc::clone(&self.is_stopped);
            tokio::spawn(purge_interval(
                self.every,
                Arc::downgrade(calls.store()),
                calls.limit(),
                is_stopped,
                running,
            ));
        }
    }
}

/// Ends with a shutdown, or with the last handle on the store.
async fn purge_interval(
    every: Duration,
    store: Weak<dyn Store>,
    limit: Duration,
    is_stopped: Arc<AtomicBool>,
    _running: Running,
) {
    loop {
        sleep(every).await;
        let Some(store) = store
            .upgrade()
            .filter(|_| !is_stopped.load(Ordering::Acquire))
        else {
            return;
        };
        let calls = Calls::new(Backend::new(store, None), limit);
        loop {
            match calls.purge(BATCH).await {
                Ok(purged) => {
                    report(&purged);
                    if purged.records < BATCH {
                        break;
                    }
                }
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "could not purge expired records"
                    );
                    break;
                }
            }
        }
    }
}

/// The outcome of an abandoned record that is purged was never resolved.
fn report(purged: &Purged) {
    tracing::trace!(records = purged.records, "purged expired records");
    for claim in &purged.abandoned {
        tracing::error!(record = %claim.key, operation = &*claim.operation,
            "purged an abandoned record: its outcome was never resolved, and its key is free");
    }
}
