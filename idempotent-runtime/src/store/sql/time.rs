//! Lengths of time as the columns of a table hold them: whole microseconds.

use std::time::Duration;

/// At most a hundred years, so that no sum leaves what a column can hold.
pub(in crate::store) fn micros(length: Duration) -> i64 {
    const CENTURY: i64 = 100 * 365 * 24 * 60 * 60 * 1_000_000;
    i64::try_from(length.as_micros()).map_or(CENTURY, |micros| micros.min(CENTURY))
}

/// Zero for what is past.
pub(in crate::store) fn length(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
