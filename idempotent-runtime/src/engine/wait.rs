//! Waiting for another attempt's answer.
//!
//! A store that tells reliably of changes wakes its waiters. For any other, one task a key and runtime
//! looks at the record every now and then, helped by the store's notifications, and wakes all waiters of
//! that key here. Waiters hold nothing but memory. One task for all runtimes would not do: its runtime may stand still.

use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::calls::{Calls, lock};
use super::pauses::jittered;
use crate::key::RecordKey;
use crate::keyed::{Entry, Keyed};
use crate::policy::{InFlight, Policy};
use crate::prompt;
use crate::record::RecordState;
use crate::store::StoreError;

pub(super) const FIRST_POLL: Duration = Duration::from_millis(50);
const SLOWEST_POLL: Duration = Duration::from_secs(1);
pub(super) const SHORTEST_POLL: Duration = Duration::from_millis(1);
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// The longest pause between two looks. A response that lives for less than that would be gone by then, and a waiter run.
pub(super) fn slowest_poll(ttl: Duration) -> Duration {
    (ttl / 4).clamp(SHORTEST_POLL, SLOWEST_POLL)
}

type Change = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The keys that have waiters in this process, and that are being looked at.
#[derive(Clone, Debug)]
pub(super) struct Watches {
    calls: Calls,
    by_key: Keyed<Watch>,
}

/// One key that is being looked at, for as long as it has a waiter.
#[derive(Debug, Default)]
struct Watch {
    changed: Arc<Notify>,
    /// The runtimes that look at it: each that has a waiter.
    looking: Mutex<Vec<runtime::Id>>,
}

/// The task that looks at a key. When it ends, also because its runtime does, it wakes the waiters.
struct Looking(Weak<Entry<Watch>>, runtime::Id);

impl Watches {
    pub(super) fn new(calls: Calls) -> Self {
        Self {
            calls,
            by_key: Keyed::default(),
        }
    }

    /// A change from this moment on. The end of a lease is not a change.
    fn change(&self, key: &RecordKey, ttl: Duration) -> Change {
        // What a recovery function finds out need not be a change of the record; and it can hang while another process decides.
        if let Some(ended) = self.calls.recoveries().ended(key) {
            let limit = slowest_poll(ttl);
            return Box::pin(async move { drop(timeout(limit, ended).await) });
        }
        let subscription = self.calls.store().subscribe(key);
        if subscription.is_reliable() {
            return Box::pin(subscription.changed());
        }
        drop(subscription);
        let watch = self.by_key.get_or_insert_with(key, Watch::default);
        let changed = self.join(key, ttl, &watch);
        Box::pin(async move {
            changed.await;
            drop(watch);
        })
    }

    /// A waiter joins a watch under its lock, so that it is told of all that happens to it afterwards.
    fn join(&self, key: &RecordKey, ttl: Duration, watch: &Arc<Entry<Watch>>) -> OwnedNotified {
        let runtime = Handle::current();
        let id = runtime.id();
        let (changed, is_looked_at) = {
            let mut looking = lock(&watch.looking);
            let changed = Arc::clone(&watch.changed).notified_owned();
            let is_looked_at = looking.contains(&id);
            if !is_looked_at {
                looking.push(id);
            }
            (changed, is_looked_at)
        };
        if !is_looked_at {
            // Not under the lock: a runtime that ends drops the task at once, and with it `Looking`.
            let looking = Looking(Arc::downgrade(watch), id);
            prompt::spawn(&runtime, self.clone().look(*key, ttl, looking));
        }
        changed
    }

    /// Looks at one record until it has changed or has no waiter any more.
    async fn look(self, key: RecordKey, ttl: Duration, looking: Looking) {
        let slowest = slowest_poll(ttl);
        let mut poll = FIRST_POLL.min(slowest);
        let mut pause = Duration::ZERO;
        let mut first_seen = None;
        // From look to look the same one, so that a store is asked for it once.
        let mut notification = self.notification(&key);
        while looking.0.strong_count() > 0 {
            match self.running_attempt(&key).await {
                Ok(attempt)
                    if attempt.is_some() && *first_seen.get_or_insert(attempt) == attempt => {}
                // A waiter that looks for itself is told what is wrong with the store.
                Ok(_) | Err(_) => return,
            }
            tokio::select! {
                biased;
                () = &mut notification => {
                    notification = self.notification(&key);
                    // A notification may resolve for no reason, again and again.
                    sleep(pause).await;
                    pause = (pause * 2).clamp(SHORTEST_WAIT, FIRST_POLL);
                }
                () = sleep(jittered(poll)) => {}
            }
            poll = (poll * 2).min(slowest);
        }
    }

    fn notification(&self, key: &RecordKey) -> Change {
        Box::pin(self.calls.store().subscribe(key).changed())
    }

    async fn running_attempt(&self, key: &RecordKey) -> Result<Option<u32>, StoreError> {
        let record = self.calls.get(key).await?;
        Ok(record
            .filter(|record| matches!(record.state, RecordState::Running { .. }))
            .map(|record| record.attempt))
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        if let Some(watch) = self.0.upgrade() {
            lock(&watch.looking).retain(|id| *id != self.1);
            watch.changed.notify_waiters();
        }
    }
}

/// Paces one request's looks at a record.
pub(super) struct Waiter {
    deadline: Option<Instant>,
    /// How long the response lives that it waits for.
    ttl: Duration,
    change: Option<Change>,
    /// How long to pause at least before the next wait: nothing at first, and more each time that a
    /// change turned out not to be one.
    pause: Duration,
}

impl Waiter {
    pub(super) fn new(policy: &Policy, ttl: Duration) -> Self {
        let deadline = match policy.in_flight {
            InFlight::Reject => None,
            InFlight::Wait => Some(Instant::now() + policy.wait),
        };
        Self {
            deadline,
            ttl,
            change: None,
            pause: Duration::ZERO,
        }
    }

    /// Returns `true` when it is time to look again, `false` when it is time to give up.
    ///
    /// The first call subscribes and asks for a look, because the record may have changed before
    /// there was a subscription; the next one waits.
    pub(super) async fn wait(
        &mut self,
        watches: &Watches,
        key: &RecordKey,
        lease_left: Duration,
    ) -> bool {
        let Some(deadline) = self.deadline else {
            return false;
        };
        let now = Instant::now();
        if now >= deadline {
            return false;
        }
        let Some(change) = self.change.take() else {
            sleep_until(deadline.min(now + self.pause)).await;
            self.change = Some(watches.change(key, self.ttl));
            return true;
        };
        self.pause = (self.pause * 2).clamp(SHORTEST_WAIT, FIRST_POLL);
        tokio::select! {
            biased;
            () = change => {}
            // A lease that ends does not change the record, so the store does not tell.
            () = sleep_until(deadline.min(now + lease_left.max(SHORTEST_WAIT))) => {}
        }
        true
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use super::*;
    use crate::store::backend::Backend;
    use crate::store::memory::MemoryStore;

    /// A task that is spawned there is dropped at once, on this thread.
    #[test]
    fn waiter_on_a_runtime_that_has_ended_joins_and_is_woken() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let ended = runtime.handle().clone();
        drop(runtime);
        let backend = Backend::new(Arc::new(MemoryStore::new()), None);
        let watches = Watches::new(Calls::new(
            backend,
            Duration::from_secs(1),
            crate::observer::Observers::default(),
        ));
        let key = RecordKey::from_bytes([7; 32]);
        let watch = watches.by_key.get_or_insert_with(&key, Watch::default);
        let changed = {
            let _entered = ended.enter();
            watches.join(&key, Duration::from_secs(1), &watch)
        };
        assert!(lock(&watch.looking).is_empty());
        let waiting = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        waiting.block_on(changed);
    }
}
