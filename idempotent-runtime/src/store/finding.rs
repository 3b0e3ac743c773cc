//! Findings about a store: its server, its settings, its table, its clock.
//!
//! One list for two readers. A service that connects logs the part of it that can lose records
//! ([`log`](self::log)); an operator's tool asks for all of it ([`Target::check`](super::Target::check)).

use std::borrow::Cow;
use std::fmt;
#[cfg(any(feature = "redis", feature = "postgres", feature = "mysql"))]
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The result of one check of a store.
///
/// It displays as one line for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How bad the finding is.
    pub severity: Severity,
    /// What was found.
    pub what: Cow<'static, str>,
    /// The consequence; empty if the finding is [good](Severity::Good).
    pub why: &'static str,
    /// The remedy; empty if the finding is [good](Severity::Good).
    pub fix: &'static str,
}

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// It is as it should be.
    Good,
    /// It depends on what is at stake. A service does not log it at each start.
    Note,
    /// It depends on what is at stake, or it could not be checked.
    Warning,
    /// The store loses records in ordinary operation, or does not work.
    Danger,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.severity {
            Severity::Good => f.write_str(&self.what),
            _ => write!(f, "{}: {}; {}", self.what, self.why, self.fix),
        }
    }
}

#[cfg(any(
    feature = "redis",
    feature = "postgres",
    feature = "mysql",
    feature = "sqlite"
))]
impl Finding {
    pub(super) fn good(what: impl Into<Cow<'static, str>>) -> Self {
        Self::of(Severity::Good, what, "", "")
    }

    pub(super) fn danger(
        what: impl Into<Cow<'static, str>>,
        why: &'static str,
        fix: &'static str,
    ) -> Self {
        Self::of(Severity::Danger, what, why, fix)
    }

    pub(super) fn of(
        severity: Severity,
        what: impl Into<Cow<'static, str>>,
        why: &'static str,
        fix: &'static str,
    ) -> Self {
        Self {
            severity,
            what: what.into(),
            why,
            fix,
        }
    }
}

#[cfg(any(feature = "redis", feature = "postgres", feature = "mysql"))]
impl Finding {
    pub(super) fn note(
        what: impl Into<Cow<'static, str>>,
        why: &'static str,
        fix: &'static str,
    ) -> Self {
        Self::of(Severity::Note, what, why, fix)
    }

    pub(super) fn warning(
        what: impl Into<Cow<'static, str>>,
        why: &'static str,
        fix: &'static str,
    ) -> Self {
        Self::of(Severity::Warning, what, why, fix)
    }

    /// A server's clock, in microseconds since 1970, which was asked for from then on until now.
    pub(super) fn of_clock(server_us: i64, asked: SystemTime) -> Self {
        let micros = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
        };
        let (before, after) = (micros(asked), micros(SystemTime::now()));
        // Nothing, if it may have been shown in between.
        let ahead = (server_us - after).max(0) + (server_us - before).min(0);
        let apart = Duration::from_micros(ahead.unsigned_abs());
        let direction = if ahead < 0 { "behind" } else { "ahead of" };
        if apart < CLOCKS_AGREE {
            return Self::good("the server's clock and this machine's agree to a second");
        }
        Self::note(
            format!("the server's clock is {apart:.1?} {direction} this machine's"),
            "leases and lifetimes go by the server's clock alone and are right, but times in logs do not match",
            "set both by NTP",
        )
    }
}

/// Finer than any comparison of logs needs.
#[cfg(any(feature = "redis", feature = "postgres", feature = "mysql"))]
const CLOCKS_AGREE: Duration = Duration::from_secs(1);

/// Tells a service that connects what can lose its records.
#[cfg(any(feature = "redis", feature = "postgres", feature = "mysql"))]
pub(super) fn log(store: &'static str, findings: &[Finding]) {
    let told = findings
        .iter()
        .filter(|it| it.severity >= Severity::Warning);
    for finding in told {
        tracing::warn!(severity = ?finding.severity, "{store} store: {finding}");
    }
}

#[cfg(all(test, any(feature = "redis", feature = "postgres", feature = "mysql")))]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_may_have_been_right_is_right() {
        let now = SystemTime::now();
        let micros = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap();
            i64::try_from(since.as_micros()).unwrap()
        };
        let asked = now - Duration::from_secs(10);
        for right in [asked, now] {
            assert_eq!(
                Finding::of_clock(micros(right), asked).severity,
                Severity::Good
            );
        }
        let late = Finding::of_clock(micros(asked) - 90_000_000, asked);
        assert_eq!(late.severity, Severity::Note);
        assert!(late.what.contains("90.0s behind"), "{}", late.what);
        let early = Finding::of_clock(micros(now) + 90_000_000, asked);
        assert!(early.what.contains("ahead of"), "{}", early.what);
    }
}
