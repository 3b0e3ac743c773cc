//! The waiters for changes of records.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::key::RecordKey;

/// Knows the waiters of each record, and wakes them. A record has an entry for as long as it has one.
#[derive(Default)]
pub(super) struct Waiters(Mutex<HashMap<RecordKey, RecordWatch>>);

/// It is there as long as a waiter watches.
#[derive(Default)]
struct RecordWatch {
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

    /// After a time in which changes went by unheard.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(super) fn wake_all(&self) {
        for watch in self.watches().values() {
            watch.changed.notify_waiters();
        }
    }

    #[cfg(feature = "postgres")]
    pub(super) fn is_watched(&self, key: &RecordKey) -> bool {
        self.watches().contains_key(key)
    }

    fn watches(&self) -> MutexGuard<'_, HashMap<RecordKey, RecordWatch>> {
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

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::*;

    const ONE: RecordKey = RecordKey::from_bytes([1; 32]);
    const OTHER: RecordKey = RecordKey::from_bytes([2; 32]);

    fn is_pending(future: Pin<&mut impl Future<Output = ()>>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        future.poll(&mut context).is_pending()
    }

    #[tokio::test]
    async fn change_wakes_all_who_wait_for_its_record_and_no_others() {
        let waiters = Arc::new(Waiters::default());
        let [first, second] = [(); 2].map(|()| waiters.watch(ONE));
        let mut other = Box::pin(waiters.watch(OTHER));
        waiters.wake(&ONE);
        tokio::join!(first, second);
        assert!(is_pending(other.as_mut()));
        let mut late = Box::pin(waiters.watch(ONE));
        assert!(is_pending(late.as_mut()), "the change was before it");
        waiters.wake(&OTHER);
        other.await;
    }

    #[tokio::test]
    async fn waiters_leave_nothing_behind() {
        let waiters = Arc::new(Waiters::default());
        let (first, second) = (waiters.watch(ONE), waiters.watch(ONE));
        let third = waiters.watch(OTHER);
        assert_eq!(waiters.watches().len(), 2);
        drop(third);
        assert_eq!(waiters.watches().len(), 1);
        waiters.wake(&ONE);
        waiters.wake(&OTHER);
        first.await;
        let late = waiters.watch(ONE);
        second.await;
        assert_eq!(waiters.watches().len(), 1);
        drop(late);
        assert_eq!(waiters.watches().len(), 0);
    }
}
