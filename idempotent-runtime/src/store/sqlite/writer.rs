//! The writer: a thread of its own that commits in groups.
//!
//! A commit waits for the disk, and that wait is nearly all a write costs. So whatever has come in
//! while one transaction was on its way to the disk makes up the next one. An operation that is alone
//! waits for no other: there is no timer. No caller is answered before the commit. A caller that goes away
//! before its operation was taken from the queue takes it along; after that, it is done all the same.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::batch::Plain;
use super::database::Database;
use super::failure::{is_of_one_statement, store_error, writer_has_ended};
use super::group::Group;
use super::queue::{Queue, Server, Urgency};
use super::session::Session;
use super::shared::Shared;
use super::statements::Statements;
use crate::engine::catch_unwind;
use crate::store::StoreError;
use crate::store::waiters::Waiters;

/// Something to be done within a transaction of the writer's.
///
/// It has no savepoint of its own: a statement that fails undoes itself and leaves the transaction as
/// it was. So an operation changes with **one statement**, or with several of which each may stand
/// alone.
#[async_trait]
pub(super) trait Operation: Send + 'static {
    type Output: Send + 'static;

    const URGENCY: Urgency = Urgency::Other;

    /// Whether it is only run on a table that this release knows.
    const NEEDS_TABLE: bool = true;

    async fn run(self, session: &mut Session) -> Result<Self::Output, Failure>;

    /// What it is to others of its kind, if many can be done at once.
    fn plain(&self) -> Option<Plain<'_>> {
        None
    }

    /// Its output, when it is plain and has been done with others: it has written.
    fn written(&self) -> Option<Self::Output> {
        None
    }

    /// Wakes the waiters of the records that it has changed, once that is committed.
    fn wake(_output: &Self::Output, _waiters: &Waiters) {}
}

/// Why an operation came to nothing.
pub(super) enum Failure {
    /// The others in its group do not notice.
    OfOperation(StoreError),
    /// The group fails with it.
    OfTransaction(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        if is_of_one_statement(&error) {
            Self::OfOperation(store_error(error))
        } else {
            Self::OfTransaction(error)
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::OfOperation(error)
    }
}

/// The way to the writer, which ends when this is dropped and its queue is done.
pub(super) struct Writer(Arc<Queue>);

impl Writer {
    pub(super) fn start(
        database: Arc<Database>,
        statements: Statements,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let queue = Arc::<Queue>::default();
        // Of its own, because the callers' may end before the store does. Without a driver for sockets:
        // the connection has a thread, and none of those.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let server = Server(Arc::clone(&queue));
        let mut group = Group::new(database, statements, shared);
        let serve = async move || {
            let server = server;
            while server.0.wait().await {
                // The callers in it are told by their channels that no answer will come.
                if catch_unwind(group.serve(&server.0)).await.is_err() {
                    tracing::error!("a group of the sqlite store panicked");
                }
            }
            group.close().await;
        };
        std::thread::Builder::new()
            .name("idempotent-sqlite".to_owned())
            .spawn(move || runtime.block_on(serve()))?;
        Ok(Self(queue))
    }

    /// Does it, and answers when it is committed.
    pub(super) async fn run<O: Operation>(&self, operation: O) -> Result<O::Output, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Queued {
            operation: Some(operation),
            outcome: None,
            reply,
        };
        let seat = self.0.enter(O::URGENCY, Box::new(job));
        let _seat = seat.ok_or_else(|| writer_has_ended().not_executed())?;
        answer.await.unwrap_or_else(|_| Err(writer_has_ended()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// An operation of whatever output.
#[async_trait]
pub(super) trait Job: Send {
    fn needs_table(&self) -> bool;

    fn plain(&self) -> Option<Plain<'_>>;

    /// It was done, with others.
    fn has_written(&mut self);

    /// It is not to be done.
    fn refuse(&mut self, error: StoreError);

    /// An error is the transaction's; the operation's own is part of its answer.
    async fn run(&mut self, session: &mut Session) -> Result<(), sqlx::Error>;

    fn answer(self: Box<Self>, undone: Option<&StoreError>, waiters: &Waiters);
}

struct Queued<O: Operation> {
    operation: Option<O>,
    outcome: Option<Result<O::Output, StoreError>>,
    reply: oneshot::Sender<Result<O::Output, StoreError>>,
}

#[async_trait]
impl<O: Operation> Job for Queued<O> {
    fn needs_table(&self) -> bool {
        O::NEEDS_TABLE
    }

    fn plain(&self) -> Option<Plain<'_>> {
        self.operation.as_ref()?.plain()
    }

    fn has_written(&mut self) {
        let operation = self.operation.take();
        self.outcome = operation.and_then(|operation| operation.written()).map(Ok);
    }

    fn refuse(&mut self, error: StoreError) {
        self.operation = None;
        self.outcome = Some(Err(error));
    }

    async fn run(&mut self, session: &mut Session) -> Result<(), sqlx::Error> {
        let Some(operation) = self.operation.take() else {
            return Ok(());
        };
        self.outcome = match operation.run(session).await {
            Ok(output) => Some(Ok(output)),
            Err(Failure::OfOperation(error)) => Some(Err(error)),
            Err(Failure::OfTransaction(error)) => return Err(error),
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
            O::wake(output, waiters);
        }
        // There may be no caller left to hear it.
        drop(self.reply.send(outcome));
    }
}
