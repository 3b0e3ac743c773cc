//! What waits for a group, and how many are under way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::store::StoreError;
use crate::store::postgres::grouped::{Done, Grouped};
use crate::store::postgres::lane::Lane;
use crate::store::postgres::statements::Statements;

pub(super) struct GroupQueue {
    pub(super) lane: Arc<Lane>,
    pub(super) most: u32,
    state: Mutex<GroupState>,
}

/// If something is queued, a task is about to take it, or all tasks are sending and look again.
#[derive(Default)]
pub(super) struct GroupState {
    pub(super) queue: VecDeque<Queued>,
    /// Operations that go alone.
    pub(super) alone: u32,
    /// Tasks, which send a group each or wait for a connection to do so.
    pub(super) tasks: u32,
    /// Whether one of the tasks is about to take what is queued: it waits for a connection.
    pub(super) is_collecting: bool,
}

pub(super) type GroupAnswer = Result<Done, StoreError>;

pub(super) struct Queued {
    pub(super) operation: Grouped<'static>,
    pub(super) sql: Arc<Statements>,
    /// Dropped without an answer, it has the caller send it alone.
    pub(super) reply: oneshot::Sender<GroupAnswer>,
}

impl GroupQueue {
    pub(super) fn new(lane: Arc<Lane>, most: u32) -> Self {
        Self {
            lane,
            most,
            state: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
