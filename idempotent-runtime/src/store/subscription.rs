use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;

/// A notification that a record has changed, so that a waiter need not poll.
///
/// It covers changes from the moment [`Store::subscribe`](super::Store::subscribe) returned it, so
/// a waiter subscribes, looks at the record once more, and only then waits. The end of a lease is not a change: a
/// waiter has to watch for it itself.
pub struct Subscription {
    changed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    reliable: bool,
}

impl Subscription {
    /// No notification: the waiter polls.
    #[must_use]
    pub fn none() -> Self {
        Self {
            changed: None,
            reliable: false,
        }
    }

    /// A notification that may be lost (a pub/sub message): the waiter polls too, but less often.
    #[must_use]
    pub fn best_effort(changed: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            changed: Some(Box::pin(changed)),
            reliable: false,
        }
    }

    /// A notification that is never lost: the waiter does not poll.
    #[must_use]
    pub fn reliable(changed: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            changed: Some(Box::pin(changed)),
            reliable: true,
        }
    }

    /// Whether no change is missed, so that the waiter need not poll.
    #[must_use]
    pub fn is_reliable(&self) -> bool {
        self.reliable
    }

    /// Waits for the change; forever if there is no notification.
    pub async fn changed(self) {
        match self.changed {
            Some(changed) => changed.await,
            None => pending().await,
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("reliable", &self.reliable)
            .finish_non_exhaustive()
    }
}
