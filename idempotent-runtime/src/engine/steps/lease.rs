use std::fmt;
use std::sync::Mutex;

use tokio::time::Instant;

use crate::engine::calls::lock;

/// Until when the lease of a claim is known to last, by this process's monotonic clock: from the moment
/// when it was last asked for with success, not from the answer.
pub(in crate::engine) struct LeaseView {
    renewed: Box<dyn Fn() -> Option<Instant> + Send + Sync>,
    /// As a step has found out.
    asked: Mutex<Option<Instant>>,
}

impl LeaseView {
    /// `renewed` says it of the renewals that go on beside the handler; `None` when they have found the
    /// claim lost.
    pub(in crate::engine) fn new(
        renewed: impl Fn() -> Option<Instant> + Send + Sync + 'static,
    ) -> Self {
        Self {
            renewed: Box::new(renewed),
            asked: Mutex::default(),
        }
    }

    pub(super) fn is_known_to_last(&self) -> bool {
        let until = lock(&self.asked).max((self.renewed)());
        until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn lasts_until(&self, until: Instant) {
        *lock(&self.asked) = Some(until);
    }
}

impl fmt::Debug for LeaseView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseView").finish_non_exhaustive()
    }
}
