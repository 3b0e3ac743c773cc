//! The tasks that send groups.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Row;
use tokio::time::timeout;

use super::queue::{GroupAnswer, GroupQueue, GroupState, Queued, QueuedReply};
use crate::store::StoreError;
use crate::store::postgres::grouped::{Answer, Done, group_query};
use crate::store::postgres::lane::Slot;

/// How many operations a group has at most.
const GROUP: usize = 128;

/// How many bytes of responses a group of several has at most.
const GROUP_BYTES: usize = 4 << 20;

/// How long a group may take, whatever the patience of its callers: a peer that is gone without a word must
/// not hold up the queue.
const GROUP_LIMIT: Duration = Duration::from_secs(5);

/// Sends one group after the other, until nothing is queued.
pub(super) struct Task {
    shared: Arc<GroupQueue>,
    stage: Stage,
}

#[derive(PartialEq, Eq)]
enum Stage {
    /// Waiting for a connection; no other task takes anything from the queue.
    Collecting,
    Sending,
    Ended,
}

impl Task {
    /// One that is counted, and about to take what is queued: where there is something that none is about to take.
    pub(super) fn wanted(shared: &Arc<GroupQueue>, state: &mut GroupState) -> Option<Self> {
        let is_wanted =
            !state.queue.is_empty() && !state.is_collecting && state.tasks < shared.most;
        is_wanted.then(|| {
            state.tasks += 1;
            state.is_collecting = true;
            Self {
                shared: Arc::clone(shared),
                stage: Stage::Collecting,
            }
        })
    }

    pub(super) async fn serve(mut self) {
        while self.stage == Stage::Collecting {
            let queued = self.shared.state().queue.len();
            match Arc::clone(&self.shared).lane.slot().await {
                Ok(slot) => {
                    let group = self.take();
                    send(&slot, group).await;
                }
                // Operations that have come meanwhile wait for the next try.
                Err(error) => refuse(self.take_first(queued), &error),
            }
            self.look_again();
        }
    }

    /// A group of those that are still waited for, not before there is a connection: until then it
    /// grows.
    fn take(&mut self) -> Vec<Queued> {
        let mut state = self.shared.state();
        let (mut group, mut bytes) = (Vec::new(), 0);
        while group.len() < GROUP
            && let Some(next) = state.queue.pop_front()
        {
            if next.reply.is_closed() {
                continue;
            }
            bytes += next.operation.size_bytes();
            if bytes > GROUP_BYTES && !group.is_empty() {
                state.queue.push_front(next);
                break;
            }
            group.push(next);
        }
        state.is_collecting = false;
        self.stage = Stage::Sending;
        let next = Self::wanted(&self.shared, &mut state);
        drop(state);
        if let Some(next) = next {
            tokio::spawn(next.serve());
        }
        group
    }

    fn take_first(&mut self, count: usize) -> Vec<Queued> {
        let mut state = self.shared.state();
        state.is_collecting = false;
        self.stage = Stage::Sending;
        let count = count.min(state.queue.len());
        state.queue.drain(..count).collect()
    }

    fn look_again(&mut self) {
        let mut state = self.shared.state();
        if state.queue.is_empty() || state.is_collecting {
            state.tasks -= 1;
            self.stage = Stage::Ended;
        } else {
            state.is_collecting = true;
            self.stage = Stage::Collecting;
        }
    }
}

/// Where the runtime ends before the task does: an operation that has queued goes alone.
impl Drop for Task {
    fn drop(&mut self) {
        if self.stage == Stage::Ended {
            return;
        }
        let mut state = self.shared.state();
        state.tasks -= 1;
        if self.stage == Stage::Collecting {
            state.is_collecting = false;
        }
        let left = match state.is_collecting {
            true => VecDeque::new(),
            false => std::mem::take(&mut state.queue),
        };
        drop(state);
        drop(left);
    }
}

/// Answers the operations that the server has answered. The callers of the others are told whether theirs may have
/// been executed: however this ends, also with its runtime.
async fn send(slot: &Slot<'_>, group: Vec<Queued>) {
    let Some(first) = group.first() else {
        return;
    };
    let sql = Arc::clone(&first.sql);
    let (operations, mut replies): (Vec<_>, Vec<_>) = group
        .into_iter()
        .map(|queued| (queued.operation, queued.reply))
        .unzip();
    note_lost_question(&mut replies, true);
    let sending = timeout(
        GROUP_LIMIT,
        slot.reply(None, || group_query(&operations, &sql)),
    );
    let sent = tokio::select! {
        sent = sending => sent,
        // With the last caller goes the connection.
        () = all_gone(&mut replies) => return,
    };
    let reply = match sent {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => {
            tracing::debug!(
                operations = operations.len(),
                error = &error as &dyn std::error::Error,
                "a group has failed; its operations are sent one by one"
            );
            note_lost_question(&mut replies, error.may_have_happened());
            return;
        }
        Err(_) => return,
    };
    let has_lost_question = reply.has_lost_question;
    note_lost_question(&mut replies, has_lost_question);
    let mut replies: Vec<_> = replies.into_iter().map(Some).collect();
    for row in reply.rows {
        let place: Option<i64> = row.try_get("place").ok();
        let index = place.and_then(|place| usize::try_from(place - 1).ok());
        let reply = index.and_then(|index| replies.get_mut(index)?.take());
        if let Some(reply) = reply {
            let done = Done::Told(row);
            reply.send(GroupAnswer::Done(Answer {
                done,
                has_lost_question,
            }));
        }
    }
}

fn note_lost_question(replies: &mut [QueuedReply], has_lost_question: bool) {
    for reply in replies {
        reply.has_lost_question = has_lost_question;
    }
}

async fn all_gone(replies: &mut [QueuedReply]) {
    for reply in replies {
        reply.closed().await;
    }
}

/// There is no connection.
fn refuse(group: Vec<Queued>, error: &StoreError) {
    for queued in group {
        queued.reply.send(GroupAnswer::Refused(error.clone()));
    }
}
