//! What waits for a group, and how many are under way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::store::StoreError;
use crate::store::postgres::grouped::{Answer, Grouped};
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

/// What a caller that queues is told. No answer at all: its operation was not sent.
pub(super) enum GroupAnswer {
    Done(Answer),
    /// There was no connection, and the operation was not sent.
    Refused(StoreError),
    /// It was sent, and may have been executed, or may be later.
    LostQuestion,
}

pub(super) struct Queued {
    pub(super) operation: Grouped<'static>,
    pub(super) sql: Arc<Statements>,
    pub(super) reply: QueuedReply,
}

/// How to answer a caller. Dropped without an answer, it has the caller know whether its operation was sent.
pub(super) struct QueuedReply {
    caller: Option<oneshot::Sender<GroupAnswer>>,
    /// Its operation is in a group that was sent, and may have been executed.
    pub(super) has_lost_question: bool,
}

impl QueuedReply {
    pub(super) fn new(caller: oneshot::Sender<GroupAnswer>) -> Self {
        Self {
            caller: Some(caller),
            has_lost_question: false,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.caller.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Waits until the caller has gone away.
    pub(super) async fn closed(&mut self) {
        if let Some(caller) = &mut self.caller {
            caller.closed().await;
        }
    }

    pub(super) fn send(mut self, answer: GroupAnswer) {
        self.tell(answer);
    }

    fn tell(&mut self, answer: GroupAnswer) {
        if let Some(caller) = self.caller.take() {
            // There may be no caller left to hear it.
            drop(caller.send(answer));
        }
    }
}

impl Drop for QueuedReply {
    fn drop(&mut self) {
        if self.has_lost_question {
            self.tell(GroupAnswer::LostQuestion);
        }
    }
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
