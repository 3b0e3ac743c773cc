//! Time and randomness, which a test can control.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The source of time and randomness. Applications use the default; tests replace it.
///
/// [`SystemClock`] is the default.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The wall clock, for the age of keys, because it continues while no process runs.
    fn now(&self) -> SystemTime;

    /// A monotonic clock, for the budget.
    fn instant(&self) -> Instant;

    /// Uniform in 0..1: the jitter of one wait.
    fn random(&self) -> f64;

    /// Ends after `duration`.
    fn sleep(&self, duration: Duration, pause: Pause) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The reason for a sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pause {
    /// The wait between two tries.
    BackOff,
    /// The longest time that a try may take. It is dropped if the try ends earlier.
    Timeout,
}

/// The clock of the operating system, tokio's timer, and the randomness of the operating system.
///
/// Sleeping needs a tokio runtime with a timer, and panics without one.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }

    /// The longest wait if the operating system has no randomness.
    fn random(&self) -> f64 {
        let bits = getrandom::u64().unwrap_or(u64::MAX);
        // 32 bits are finer than a nanosecond in four seconds.
        f64::from(u32::try_from(bits >> 32).unwrap_or(u32::MAX)) / 4_294_967_296.0
    }

    fn sleep(&self, duration: Duration, _: Pause) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}
