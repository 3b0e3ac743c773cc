//! Time that moves only when a test moves it.

#[cfg(feature = "memory")]
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

#[cfg(feature = "memory")]
use crate::clock::{Clock, ManualClock};
#[cfg(feature = "memory")]
use crate::store::memory::MemoryStore;

/// A memory store, and the clock that decides when its leases and records end. The clock moves only when the test
/// [moves it](ManualClock::advance).
///
/// For tests in real time. If tokio's time is paused, you do not need it: a memory store uses tokio's time, and
/// `tokio::time::advance` moves it. After a lease has ended by the manual clock, a grace period of 2.5 s by the same
/// clock follows before a take-over; records from [`crash_before_handler`](super::crash_before_handler) and its
/// siblings have no grace period.
///
/// ```
/// use idempotent_runtime::{Idempotency, testing};
/// use std::time::Duration;
///
/// let (store, clock) = testing::memory_on_manual_clock();
/// let idempotency = Idempotency::new(store);
/// // ... a request, and then:
/// clock.advance(Duration::from_secs(24 * 60 * 60));
/// # drop(idempotency);
/// ```
#[cfg(feature = "memory")]
#[must_use]
pub fn memory_on_manual_clock() -> (MemoryStore, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let shared: Arc<dyn Clock> = Arc::clone(&clock) as _;
    (MemoryStore::builder().clock(shared).build(), clock)
}

/// Keeps paused time from moving by itself, for as long as the returned value lives: for tests with `start_paused = true` that
/// use a database.
///
/// While tokio's time is paused and every task waits, tokio moves its clock to the next timer. It does not see that a
/// task waits for a database, so every timeout of a pool or a store ends at once. With `hold_time`, time moves only by
/// `tokio::time::advance`, and a `sleep` ends only if another task advances the clock.
///
/// # Panics
///
/// If called outside of a tokio runtime.
#[must_use = "time is held only as long as this lives"]
pub fn hold_time() -> HeldTime {
    let (held, until_dropped) = channel::<()>();
    // Tokio moves no time while such a task runs.
    drop(tokio::task::spawn_blocking(move || {
        // An error: the sender is gone.
        let _ = until_dropped.recv();
    }));
    HeldTime { _held: held }
}

/// Time that does not move by itself: see [`hold_time`].
#[derive(Debug)]
pub struct HeldTime {
    _held: Sender<()>,
}
