//! One queue a key and process: the request at its head runs the transaction for that key.
//!
//! Others of the same key need not ask the database: the queue says that it is in flight,
//! or they wait in it. The first that waits asks on behalf of all, while another process runs the
//! transaction. So waiters hold no connection, and one at most of a process polls.

use std::sync::{Arc, Mutex};

use tokio::sync::OwnedMutexGuard;

use super::calls::lock;
use crate::fingerprint::Fingerprint;
use crate::keyed::Entry;

/// The queue for one key.
#[derive(Debug, Default)]
pub(super) struct KeyQueue {
    turn: Arc<tokio::sync::Mutex<()>>,
    running: Mutex<Option<Fingerprint>>,
}

/// First in the queue, or running.
pub(super) type Turn = OwnedMutexGuard<()>;

/// Says that a transaction of this process runs for the key, until it is dropped.
#[derive(Debug)]
pub(super) struct RunningHere {
    queue: Arc<Entry<KeyQueue>>,
    /// Missing when another waiter was first in the queue, and late to see that the other
    /// process is done.
    _turn: Option<Turn>,
}

impl KeyQueue {
    /// The fingerprint of the request that runs here.
    pub(super) fn running(&self) -> Option<Fingerprint> {
        *lock(&self.running)
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
        *lock(&queue.running) = Some(fingerprint);
        Self { queue, _turn: turn }
    }
}

impl Drop for RunningHere {
    fn drop(&mut self) {
        *lock(&self.queue.running) = None;
    }
}
