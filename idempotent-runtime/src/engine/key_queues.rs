//! One queue a key and process: the request at its head runs the transaction for that key.
//!
//! Others of the same key need not ask the database: the queue says that it is in flight,
//! or they wait in it. The first that waits asks on behalf of all, while another process runs the
//! transaction. So waiters hold no connection, and one at most of a process polls.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::calls::lock;
use crate::fingerprint::Fingerprint;
use crate::keyed::Entry;

/// The queue for one key.
#[derive(Debug, Default)]
pub(super) struct KeyQueue {
    turn: Arc<tokio::sync::Mutex<()>>,
    running: Mutex<Option<RunningRequest>>,
}

/// The request that runs, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RunningRequest {
    fingerprint: Fingerprint,
    since: Instant,
}

/// First in the queue, or running.
pub(super) type Turn = OwnedMutexGuard<()>;

/// Says that a transaction of this process runs for the key, until it is dropped.
#[derive(Debug)]
pub(super) struct RunningHere {
    queue: Arc<Entry<KeyQueue>>,
    running: RunningRequest,
    /// Missing when another waiter was first in the queue, and late to see that the other
    /// process is done.
    _turn: Option<Turn>,
}

impl KeyQueue {
    /// The fingerprint of the request that runs here. After `limit` only the database knows: it may have ended a transaction whose
    /// runtime stands still.
    pub(super) fn running(&self, limit: Duration) -> Option<Fingerprint> {
        let running = (*lock(&self.running))?;
        (running.since.elapsed() < limit).then_some(running.fingerprint)
    }

    /// The turn, if it is free.
    pub(super) fn try_turn(&self) -> Option<Turn> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    /// The turn, when all before this caller are done.
    pub(super) async fn turn(&self) -> Turn {
        Arc::clone(&self.turn).lock_owned().await
    }
}

impl RunningHere {
    pub(super) fn new(
        queue: Arc<Entry<KeyQueue>>,
        turn: Option<Turn>,
        fingerprint: Fingerprint,
    ) -> Self {
        let running = RunningRequest {
            fingerprint,
            since: Instant::now(),
        };
        *lock(&queue.running) = Some(running);
        Self {
            queue,
            running,
            _turn: turn,
        }
    }
}

impl Drop for RunningHere {
    fn drop(&mut self) {
        let mut running = lock(&self.queue.running);
        // Another one may run by now.
        if *running == Some(self.running) {
            *running = None;
        }
    }
}
