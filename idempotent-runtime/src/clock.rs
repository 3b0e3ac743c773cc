//! Clocks: how the in-process store measures leases and expiry.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A clock that never goes back.
///
/// A store decides leases and expiry by its own clock, never by the application's: Redis and the
/// SQL stores use their server's clock. The in-process store has no server, so it uses one of these.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time since this clock's own beginning. Must never decrease.
    fn now(&self) -> Duration;
}

/// The machine's monotonic clock: setting the date does not move it.
///
/// It is tokio's clock, so a test that pauses tokio's time also pauses this clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock that moves only when told to. For tests.
#[derive(Debug, Default)]
pub struct ManualClock {
    millis: AtomicU64,
}

impl ManualClock {
    /// A clock that starts at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward, in whole milliseconds.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.millis.fetch_add(by, Ordering::AcqRel);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::Acquire))
    }
}
