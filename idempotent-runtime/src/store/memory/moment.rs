//! Points in time.

use std::time::Duration;

/// By the store's clock, in nanoseconds: that is good for 584 years, and half as large as a
/// [`Duration`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

impl Moment {
    pub(super) fn new(since_the_beginning: Duration) -> Self {
        Self(nanoseconds(since_the_beginning))
    }

    pub(super) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(duration)))
    }

    /// Nothing, if that one is later.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The second that has begun.
    pub(super) fn second(self) -> u32 {
        u32::try_from(self.0 / SECOND).unwrap_or(u32::MAX)
    }

    /// The second that begins then or after it.
    pub(super) fn next_second(self) -> u32 {
        u32::try_from(self.0.div_ceil(SECOND)).unwrap_or(u32::MAX)
    }
}

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
