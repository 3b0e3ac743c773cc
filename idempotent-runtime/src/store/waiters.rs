//! The waiters for changes of records.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::key::RecordKey;
use crate::keyed::Keyed;

/// Wakes the waiters of a record. A record has an entry for as long as it has one.
#[derive(Default)]
pub(super) struct Waiters(Keyed<Arc<Notify>>);

impl Waiters {
    /// Resolves at the next change of that record, counted from now.
    pub(super) fn watch(&self, key: RecordKey) -> impl Future<Output = ()> + use<> {
        let waiter = self.0.get_or_insert_with(&key, Arc::default);
        let changed = Arc::clone(&**waiter).notified_owned();
        async move {
            changed.await;
            drop(waiter);
        }
    }

    pub(super) fn wake(&self, key: &RecordKey) {
        if let Some(changed) = self.0.get(key) {
            changed.notify_waiters();
        }
    }

    /// After a time in which changes went by unheard.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(super) fn wake_all(&self) {
        for changed in self.0.all() {
            changed.notify_waiters();
        }
    }

    #[cfg(feature = "postgres")]
    pub(super) fn is_watched(&self, key: &RecordKey) -> bool {
        self.0.get(key).is_some()
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
        assert_eq!(waiters.0.len(), 2);
        drop(third);
        assert_eq!(waiters.0.len(), 1);
        waiters.wake(&ONE);
        waiters.wake(&OTHER);
        first.await;
        let late = waiters.watch(ONE);
        second.await;
        assert_eq!(waiters.0.len(), 1);
        drop(late);
        assert_eq!(waiters.0.len(), 0);
    }
}
