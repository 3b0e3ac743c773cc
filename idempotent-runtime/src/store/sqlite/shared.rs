//! What the writer, the handlers' transactions and the store share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::session::WriteSession;
use crate::store::waiters::Waiters;

/// Until a completion has told another.
const EXPECTED_TTL: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) struct SharedState {
    pub(super) waiters: Arc<Waiters>,
    /// Whose turn it is to write. SQLite lets in one connection at a time as well, but whichever
    /// happens to ask next, and one that never happens to do so starves.
    ///
    /// There are two that ask: the writer and the first of the handlers. They are let in by turns, so that a
    /// group of the writer's waits for one handler's transaction at most.
    pub(super) turn: Arc<Mutex<()>>,
    /// Which handler is the first. They come in the order in which they have asked.
    pub(super) handlers: Arc<Mutex<Handlers>>,
    /// In microseconds.
    expected_ttl: AtomicU64,
}

/// What handlers' transactions are made on, one after the other.
#[derive(Default)]
pub(super) struct Handlers(pub(super) Option<WriteSession>);

impl Default for SharedState {
    fn default() -> Self {
        let shared = Self {
            waiters: Arc::default(),
            turn: Arc::default(),
            handlers: Arc::default(),
            expected_ttl: AtomicU64::new(0),
        };
        shared.expect_ttl(EXPECTED_TTL);
        shared
    }
}

impl SharedState {
    /// How long records live once they are completed: what the last one was given.
    pub(super) fn expected_ttl(&self) -> Duration {
        Duration::from_micros(self.expected_ttl.load(Ordering::Relaxed))
    }

    pub(super) fn expect_ttl(&self, ttl: Duration) {
        let micros = u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX);
        self.expected_ttl.store(micros, Ordering::Relaxed);
    }
}
