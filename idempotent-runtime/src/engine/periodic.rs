//! One background task on a store, for as long as an application uses it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::calls::Calls;
use crate::observer::Observers;
use crate::prompt;
use crate::store::Store;
use crate::store::backend::Backend;

/// Sees to it that there is one task, on the runtime of the first caller while no task runs.
#[derive(Debug)]
pub(super) struct Periodic {
    every: Duration,
    runs: Arc<AtomicBool>,
    is_stopped: Arc<AtomicBool>,
}

/// Wakes the task up, until it ends: also when its runtime is shut down.
pub(super) struct Rounds {
    pub(super) every: Duration,
    store: Weak<dyn Store>,
    limit: Duration,
    observers: Observers,
    runs: Arc<AtomicBool>,
    is_stopped: Arc<AtomicBool>,
}

impl Periodic {
    /// With a period of zero there is no task.
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

    /// Costs nothing once the task runs. Without a runtime it does nothing.
    pub(super) fn run<F>(&self, calls: &Calls, task: impl FnOnce(Rounds) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.every.is_zero() || self.runs.load(Ordering::Acquire) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if !self.runs.swap(true, Ordering::AcqRel) {
            let rounds = Rounds {
                every: self.every,
                store: Arc::downgrade(calls.backend().store()),
                limit: calls.limit(),
                observers: calls.observers().clone(),
                runs: Arc::clone(&self.runs),
                is_stopped: Arc::clone(&self.is_stopped),
            };
            prompt::spawn(&runtime, task(rounds));
        }
    }
}

impl Rounds {
    /// The store, after a pause; `None` after a shutdown, or when the last handle on the store is gone.
    pub(super) async fn next(&self, pause: Duration) -> Option<Calls> {
        sleep(pause).await;
        if self.is_stopped.load(Ordering::Acquire) {
            return None;
        }
        let backend = Backend::new(self.store.upgrade()?, None);
        Some(Calls::new(backend, self.limit, self.observers.clone()))
    }

    /// No other task begins after this one.
    pub(super) fn are_the_last(self) {
        self.is_stopped.store(true, Ordering::Release);
        // Its drop says that no task runs.
        let runs = Arc::clone(&self.runs);
        drop(self);
        runs.store(true, Ordering::Release);
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        self.runs.store(false, Ordering::Release);
    }
}
