//! What the writer is given to do.

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::error::{Undone, writer_has_ended};
use super::session::WriteSession;
use super::statements::Statement;
use super::time::Time;
use crate::key::RecordKey;
use crate::store::StoreError;
use crate::store::waiters::Waiters;

/// Something to be done within a transaction of the writer's.
///
/// It has no savepoint of its own: a statement that fails undoes itself and leaves the transaction as
/// it was. So an operation changes with **one statement**, or with several of which each may stand
/// alone.
#[async_trait]
pub(super) trait WriteOperation: Send + 'static {
    type Output: Send + 'static;

    const URGENCY: Urgency = Urgency::Other;

    /// Whether it is only run on a table that this release knows.
    const NEEDS_TABLE: bool = true;

    async fn run(self, session: &mut WriteSession) -> Result<Self::Output, Undone>;

    /// What it is to others of its kind, if many can be done at once.
    fn batchable(&self) -> Option<&dyn Batchable> {
        None
    }

    /// Its output, when it has been done with others of its kind: it has written.
    fn written(&self) -> Option<Self::Output> {
        None
    }

    /// Wakes the waiters of the records that it has changed, once that is committed.
    fn wake(_output: &Self::Output, _waiters: &Waiters) {}
}

/// Which operations come first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Those of a claim that is held: it must not end because of new ones.
    OfHolder,
    Other,
}

/// An operation of which many can be done at once.
pub(super) trait Batchable: Sync {
    fn kind(&self) -> Kind;

    fn key(&self) -> RecordKey;

    /// Binds a row of the statement.
    fn bind(&self, statement: Statement, now: Time) -> Statement;
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Claim,
    Complete,
}

/// An operation of whatever output.
#[async_trait]
pub(super) trait Job: Send {
    fn needs_table(&self) -> bool;

    fn batchable(&self) -> Option<&dyn Batchable>;

    /// It was done, with others.
    fn has_written(&mut self);

    /// It is not to be done.
    fn refuse(&mut self, error: StoreError);

    /// An error is the transaction's; the operation's own is part of its answer.
    async fn run(&mut self, session: &mut WriteSession) -> Result<(), sqlx::Error>;

    fn answer(self: Box<Self>, undone: Option<&StoreError>, waiters: &Waiters);
}

pub(super) struct QueuedWork<W: WriteOperation> {
    work: Option<W>,
    outcome: Option<Result<W::Output, StoreError>>,
    reply: oneshot::Sender<Result<W::Output, StoreError>>,
}

impl<W: WriteOperation> QueuedWork<W> {
    pub(super) fn new(work: W, reply: oneshot::Sender<Result<W::Output, StoreError>>) -> Self {
        Self {
            work: Some(work),
            outcome: None,
            reply,
        }
    }
}

#[async_trait]
impl<W: WriteOperation> Job for QueuedWork<W> {
    fn needs_table(&self) -> bool {
        W::NEEDS_TABLE
    }

    fn batchable(&self) -> Option<&dyn Batchable> {
        self.work.as_ref()?.batchable()
    }

    fn has_written(&mut self) {
        let work = self.work.take();
        self.outcome = work.and_then(|work| work.written()).map(Ok);
    }

    fn refuse(&mut self, error: StoreError) {
        self.work = None;
        self.outcome = Some(Err(error));
    }

    async fn run(&mut self, session: &mut WriteSession) -> Result<(), sqlx::Error> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        self.outcome = match work.run(session).await {
            Ok(output) => Some(Ok(output)),
            Err(Undone::Alone(error)) => Some(Err(error)),
            Err(Undone::WithItsGroup(error)) => return Err(error),
        };
        Ok(())
    }

    fn answer(self: Box<Self>, undone: Option<&StoreError>, waiters: &Waiters) {
        let outcome = match (undone, self.outcome) {
            (Some(undone), _) => Err(undone.clone()),
            (None, Some(outcome)) => outcome,
            (None, None) => Err(writer_has_ended()),
        };
        if let Ok(output) = &outcome {
            W::wake(output, waiters);
        }
        // There may be no caller left to hear it.
        drop(self.reply.send(outcome));
    }
}
