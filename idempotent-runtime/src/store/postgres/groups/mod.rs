//! Claims and completions in groups: one round trip and one commit for whatever has come in meanwhile.
//!
//! A commit waits for the disk, and that wait is nearly all a write costs. So while as many
//! statements are under way as the lane can well spare, further operations queue, and the next
//! connection takes all of them. An operation that is alone waits for no other: there is no timer.
//!
//! An operation that goes alone is run by its caller, a group by a task. A caller's future can be
//! dropped at any time, or be left unpolled, and the others of its group would be lost or stand still
//! with it. A caller that queues starts a task unless one is about to take the queue; it ends when
//! nothing is queued. Those that go alone have no part in that: they may all be stuck behind rows that
//! another transaction holds. The tasks run on the runtime of the callers that queue, because each
//! runtime has groups of its own.
//!
//! **An operation that gets no answer from its group is sent again, alone, by its caller.** Another
//! one may have failed, or may have had to wait for a row; the connection may be lost, or the runtime of
//! the task have ended. It is always right: both operations may be repeated with the same token.
//!
//! **A claim that was sent and got no reply is an error, whatever a second question is answered.** What was sent
//! may be executed at any time, also after the claim was released, and would hold the key for no attempt. So the
//! one who asks must know of it: the engine asks again with the same token, and keeps track of it.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use self::queue::{GroupAnswer, GroupQueue, Queued, QueuedReply};
use self::task::Task;
use super::error::NAME;
use super::grouped::{Done, Grouped};
use super::lane::Lane;
use super::row;
use super::statements::Statements;
use crate::store::{StoreError, StoreErrorKind};

mod queue;
mod task;

/// How many statements may be under way for the next operation to go alone, and how many groups may
/// be under way; or four fifths of the lane, where that is less.
///
/// Not fewer: the server commits in groups as well, whatever comes in on several connections at
/// once. While there are connections left, an operation that goes at once waits for one commit, and
/// one that queues for two.
const MOST: u32 = 16;

/// The way of all claims and completions of one runtime to the server.
pub(super) struct Groups(Arc<GroupQueue>);

enum Route<'a> {
    Alone(Alone<'a>),
    InGroup(oneshot::Receiver<GroupAnswer>),
}

impl Groups {
    pub(super) fn new(lane: Arc<Lane>) -> Self {
        // The rest is for what is no claim and no completion.
        let connections = lane.most();
        let most = (connections - connections.div_ceil(5)).clamp(1, MOST);
        Self(Arc::new(GroupQueue::new(lane, most)))
    }

    /// Dropped before it was sent, it does nothing; dropped later, it may be done all the same.
    ///
    /// # Errors
    ///
    /// [`StoreError`], of all times together that it was sent; and of a claim one of whose questions was lost.
    pub(super) async fn run(
        &self,
        operation: Grouped<'_>,
        sql: &Arc<Statements>,
    ) -> Result<Done, StoreError> {
        let mut has_lost_question = false;
        let result = self.sent(&operation, sql, &mut has_lost_question).await;
        match result {
            Err(error) if has_lost_question => Err(error.maybe_executed()),
            Ok(_) if has_lost_question && operation.is_claim() => Err(lost_question()),
            result => result,
        }
    }

    async fn sent(
        &self,
        operation: &Grouped<'_>,
        sql: &Arc<Statements>,
        has_lost_question: &mut bool,
    ) -> Result<Done, StoreError> {
        let _alone = match self.route_of(operation, sql) {
            Route::Alone(alone) => Some(alone),
            Route::InGroup(answer) => match answer.await {
                Ok(GroupAnswer::Done(answer)) => {
                    *has_lost_question = answer.has_lost_question;
                    return Ok(answer.done);
                }
                Ok(GroupAnswer::Refused(error)) => return Err(error),
                Ok(GroupAnswer::LostQuestion) if operation.is_claim() => {
                    return Err(lost_question());
                }
                Ok(GroupAnswer::LostQuestion) => {
                    *has_lost_question = true;
                    None
                }
                Err(_) => None,
            },
        };
        let slot = self.0.lane.slot().await?;
        if let Some(plain) = operation.plain(sql) {
            let reply = slot.reply(None, || operation.bound_to(plain)).await?;
            *has_lost_question |= reply.has_lost_question;
            // A row that it has not written may be the one that the lost question has.
            if reply.written == 1 {
                return Ok(Done::Written);
            }
        }
        let reply = slot.reply(None, || operation.query(sql)).await?;
        *has_lost_question |= reply.has_lost_question;
        row::one(reply.rows).map(Done::Told)
    }

    fn route_of(&self, operation: &Grouped<'_>, sql: &Arc<Statements>) -> Route<'_> {
        let queue = &self.0;
        let mut state = queue.state();
        let is_quiet = state.queue.is_empty() && state.alone + state.tasks < queue.most;
        match Handle::try_current() {
            Ok(runtime) if !is_quiet => {
                let (reply, answer) = oneshot::channel();
                state.queue.push_back(Queued {
                    operation: operation.to_owned(),
                    sql: Arc::clone(sql),
                    reply: QueuedReply::new(reply),
                });
                let task = Task::wanted(queue, &mut state);
                drop(state);
                if let Some(task) = task {
                    runtime.spawn(task.serve());
                }
                Route::InGroup(answer)
            }
            _ => {
                state.alone += 1;
                Route::Alone(Alone(queue))
            }
        }
    }
}

fn lost_question() -> StoreError {
    StoreError::new(NAME, StoreErrorKind::Unavailable)
        .with_source("the connection broke before the reply to a claim")
}

/// One operation that goes alone, for as long as its caller lets it.
struct Alone<'a>(&'a GroupQueue);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.state().alone -= 1;
    }
}
