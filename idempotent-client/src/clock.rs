//! Time and chance, as a test can set them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Where time and chance come from. An application leaves it alone; a test sets both.
///
/// [`SystemClock`] is the default.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The wall clock: the age of keys is counted by it, because it goes on while no process runs.
    fn now(&self) -> SystemTime;

    /// A clock that is never set: the budget is counted by it.
    fn instant(&self) -> Instant;

    /// Uniform in 0..1: the jitter of one wait.
    fn random(&self) -> f64;

    /// Ends after `duration`.
    fn sleep(&self, duration: Duration, pause: Pause) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// What a sleep is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pause {
    /// The wait between two tries.
    BackOff,
    /// The longest time that a try may take. It is dropped when the try ends before.
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
