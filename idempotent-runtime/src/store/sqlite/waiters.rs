//! Those who wait for a record to change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::key::RecordKey;

/// Knows of the changes that this store makes, and of no other process's.
#[derive(Default)]
pub(super) struct Waiters(Mutex<HashMap<RecordKey, Watch>>);

/// It is there as long as somebody watches.
#[derive(Default)]
struct Watch {
    changed: Arc<Notify>,
    watchers: usize,
}

impl Waiters {
    /// Resolves at the next change of that record, counted from now.
    pub(super) fn watch(self: &Arc<Self>, key: RecordKey) -> impl Future<Output = ()> + use<> {
        let changed = {
            let mut watches = self.watches();
            let watch = watches.entry(key).or_default();
            watch.watchers += 1;
            Arc::clone(&watch.changed).notified_owned()
        };
        let watcher = Watcher {
            key,
            waiters: Arc::clone(self),
        };
        async move {
            changed.await;
            drop(watcher);
        }
    }

    pub(super) fn wake(&self, key: &RecordKey) {
        if let Some(watch) = self.watches().get(key) {
            watch.changed.notify_waiters();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.watches().len()
    }

    fn watches(&self) -> MutexGuard<'_, HashMap<RecordKey, Watch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves when it is dropped, woken or not.
struct Watcher {
    key: RecordKey,
    waiters: Arc<Waiters>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watches = self.waiters.watches();
        if let Some(watch) = watches.get_mut(&self.key) {
            watch.watchers -= 1;
            if watch.watchers == 0 {
                watches.remove(&self.key);
            }
        }
    }
}
