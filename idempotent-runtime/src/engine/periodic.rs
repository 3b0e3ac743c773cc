//! One background task on a store, for as long as an application uses it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::calls::Calls;
use crate::observer::Observers;
use crate::prompt;
use crate::store::Store;
use crate::store::backend::Backend;

/// How long a round may take until the task is taken to stand still, with its runtime: the next caller begins another one then.
/// Where it did not, there are two for a while, which do no harm.
const SLACK: Duration = Duration::from_secs(60);

/// The time at which a task is missing: always, and never.
const NOW: u64 = 0;
const NEVER: u64 = u64::MAX;

/// Sees to it that there is one task, on the runtime of the first caller while none runs.
#[derive(Debug)]
pub(super) struct Periodic {
    every: Duration,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    since: Instant,
    /// When there should be a task and is none, in nanoseconds.
    missing_at: AtomicU64,
    /// The task that counts, if it still runs.
    latest: AtomicU64,
    is_stopped: AtomicBool,
}

/// Wakes the task up, until it ends: also when its runtime is shut down.
pub(super) struct Rounds {
    pub(super) every: Duration,
    store: Weak<dyn Store>,
    limit: Duration,
    observers: Observers,
    shared: Arc<Shared>,
    number: u64,
}

impl Periodic {
    /// With a period of zero there is no task.
    pub(super) fn new(every: Duration) -> Self {
        let missing_at = if every.is_zero() { NEVER } else { NOW };
        Self {
            every,
            shared: Arc::new(Shared {
                since: Instant::now(),
                missing_at: missing_at.into(),
                latest: AtomicU64::default(),
                is_stopped: AtomicBool::default(),
            }),
        }
    }

    /// The task ends when it wakes up the next time.
    pub(super) fn stop(&self) {
        self.shared.is_stopped.store(true, Ordering::Release);
    }

    /// Costs next to nothing while the task runs. Without a runtime it does nothing.
    pub(super) fn run<F>(&self, calls: &Calls, now: Instant, task: impl FnOnce(Rounds) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shared = &self.shared;
        let missing_at = shared.missing_at.load(Ordering::Acquire);
        if shared.nanos(now) < missing_at {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let next = shared.nanos(now + SLACK);
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        let begun = shared
            .missing_at
            .compare_exchange(missing_at, next, success, failure);
        if begun.is_ok() {
            let rounds = Rounds {
                every: self.every,
                store: Arc::downgrade(calls.backend().store()),
                limit: calls.limit(),
                observers: calls.observers().clone(),
                shared: Arc::clone(shared),
                number: shared.latest.fetch_add(1, Ordering::AcqRel) + 1,
            };
            prompt::spawn(&runtime, task(rounds));
        }
    }
}

impl Shared {
    fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.since);
        u64::try_from(since.as_nanos()).unwrap_or(NEVER - 1)
    }

    fn is_missing_after(&self, pause: Duration) {
        let at = Instant::now().checked_add(pause.saturating_add(SLACK));
        let at = at.map_or(NEVER, |at| self.nanos(at));
        self.missing_at.store(at, Ordering::Release);
    }
}

impl Rounds {
    /// The store, after a pause; `None` after a shutdown, when the last handle on the store is gone, or when another task has
    /// taken the place of one that stood still.
    pub(super) async fn next(&self, pause: Duration) -> Option<Calls> {
        if !self.is_latest() {
            return None;
        }
        self.shared.is_missing_after(pause);
        sleep(pause).await;
        if self.shared.is_stopped.load(Ordering::Acquire) || !self.is_latest() {
            return None;
        }
        self.shared.is_missing_after(Duration::ZERO);
        let backend = Backend::new(self.store.upgrade()?, None);
        Some(Calls::new(backend, self.limit, self.observers.clone()))
    }

    /// No other task begins after this one.
    pub(super) fn are_the_last(self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        // Its drop says that one is missing.
        let shared = Arc::clone(&self.shared);
        drop(self);
        shared.missing_at.store(NEVER, Ordering::Release);
    }

    fn is_latest(&self) -> bool {
        self.shared.latest.load(Ordering::Acquire) == self.number
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        if self.is_latest() {
            self.shared.missing_at.store(NOW, Ordering::Release);
        }
    }
}
