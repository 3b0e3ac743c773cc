//! The clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::store::sql::{length, micros};

/// A point in time: microseconds since 1970 by this machine's clock, which every process that has
/// the file open shares.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(pub(super) i64);

impl Time {
    pub(super) fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let micros = since_1970.unwrap_or_default().as_micros();
        // Not `micros`, which bounds lengths.
        Self(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    pub(super) fn after(self, length: Duration) -> Self {
        Self(self.0.saturating_add(micros(length)))
    }

    /// Zero when that is not earlier: clocks are set back now and then.
    pub(super) fn since(self, earlier: Self) -> Duration {
        length(self.0.saturating_sub(earlier.0))
    }
}
