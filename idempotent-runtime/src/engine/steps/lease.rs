use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::engine::calls::lock;
use crate::engine::leases::LeaseGuard;

/// Until when the lease of a claim is known to last, by this process's monotonic clock: from the moment
/// when it was last asked for with success, not from the answer.
pub(in crate::engine) struct LeaseView {
    renewed: Box<dyn Fn() -> Option<Instant> + Send + Sync>,
    /// As a step has found out.
    asked: Mutex<Option<Instant>>,
}

impl LeaseView {
    /// As the renewals say that go on beside the handler.
    pub(in crate::engine) fn of(guard: &Arc<LeaseGuard>) -> Self {
        let guard = Arc::clone(guard);
        Self::new(move || guard.valid_until())
    }

    pub(super) fn new(renewed: impl Fn() -> Option<Instant> + Send + Sync + 'static) -> Self {
        Self {
            renewed: Box::new(renewed),
            asked: Mutex::default(),
        }
    }

    pub(super) fn is_known_to_last(&self) -> bool {
        let renewed = (self.renewed)();
        let until = lock(&self.asked).max(renewed);
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
