//! The one who writes: a thread of its own that commits in groups.
//!
//! A commit waits for the disk, and that wait is nearly all a write costs. So whatever has come in
//! while one transaction was on its way to the disk makes up the next one. Who is alone waits for
//! nobody: there is no timer. No caller is answered before the commit, and a caller that has gone
//! away takes back nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::sync::{mpsc, oneshot};

use super::batch::{self, Plain};
use super::failure::{Undone, is_of_one_statement, store_error, writer_has_ended};
use super::session::{Place, Session};
use super::statements::Statements;
use crate::key::RecordKey;
use crate::store::StoreError;
use crate::store::waiters::Waiters;

/// How many operations wait at most; further callers wait to be let in.
const QUEUE: usize = 1024;

/// How many operations one transaction has at most.
const GROUP: usize = 256;

/// Something to be done within a transaction of the writer's.
///
/// It has no savepoint of its own: a statement that fails undoes itself and leaves the transaction as
/// it was. So an operation changes with **one statement**, or with several of which each may stand
/// alone.
#[async_trait]
pub(super) trait Operation: Send + 'static {
    type Output: Send + 'static;

    async fn run(self, session: &mut Session) -> Result<Self::Output, Failure>;

    /// What it is to others of its kind, if many can be done at once.
    fn plain(&self) -> Option<Plain<'_>> {
        None
    }

    /// Its output, when it is plain and has been done with others: it has written.
    fn written(&self) -> Option<Self::Output> {
        None
    }

    /// The record whose waiters are woken, once that is committed.
    fn changed(_output: &Self::Output) -> Option<RecordKey> {
        None
    }
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

/// What the writer tells the rest of the store.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) waiters: Arc<Waiters>,
    /// Whether there is a file, ready to be read by other connections.
    pub(super) is_readable: AtomicBool,
    /// Whose turn it is to write, the writer's or a handler's transaction. SQLite lets in one at a
    /// time as well, but whoever happens to ask next, and who never happens to be that one starves.
    pub(super) turn: Arc<tokio::sync::Mutex<Handlers>>,
}

/// What handlers' transactions are made on, one after the other.
#[derive(Default)]
pub(super) struct Handlers(pub(super) Option<Session>);

/// The way to the writer, which ends when this is dropped and its queue is done.
pub(super) struct Writer(mpsc::Sender<Box<dyn Job>>);

impl Writer {
    pub(super) fn start(
        options: SqliteConnectOptions,
        statements: Statements,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let (sender, mut queue) = mpsc::channel(QUEUE);
        // Of its own, because the callers' may end before the store does. It has no drivers: the
        // connection has a thread, and no socket.
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let mut group = Group {
            options,
            statements,
            shared,
            session: None,
        };
        std::thread::Builder::new()
            .name("idempotent-sqlite".to_owned())
            .spawn(move || runtime.block_on(group.serve(&mut queue)))?;
        Ok(Self(sender))
    }

    /// Does it, and answers when it is committed. Dropped before it was let in, it does nothing;
    /// dropped later, it is done all the same.
    pub(super) async fn run<O: Operation>(&self, operation: O) -> Result<O::Output, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Queued {
            operation: Some(operation),
            outcome: None,
            reply,
        };
        let sent = self.0.send(Box::new(job)).await;
        sent.map_err(|_| writer_has_ended())?;
        answer.await.unwrap_or_else(|_| Err(writer_has_ended()))
    }
}

struct Group {
    options: SqliteConnectOptions,
    statements: Statements,
    shared: Arc<Shared>,
    session: Option<Session>,
}

impl Group {
    async fn serve(&mut self, queue: &mut mpsc::Receiver<Box<dyn Job>>) {
        let mut jobs = Vec::with_capacity(GROUP);
        while queue.recv_many(&mut jobs, GROUP).await > 0 {
            let committed = self.commit(&mut jobs).await;
            for job in jobs.drain(..) {
                job.answer(committed.as_ref().err(), &self.shared.waiters);
            }
        }
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    /// Runs them all in one transaction.
    async fn commit(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Undone> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.open().await.map_err(Undone::before_commit)?,
        };
        let _turn = self.shared.turn.lock().await;
        let committed = transaction(&mut session, jobs).await;
        self.session = match &committed {
            Ok(()) => Some(session),
            Err(_) => session.recover().await,
        };
        committed
    }

    async fn open(&self) -> Result<Session, sqlx::Error> {
        let session = Session::open(&self.options, &self.statements).await?;
        let is_readable = session.place == Place::File;
        self.shared
            .is_readable
            .store(is_readable, Ordering::Release);
        Ok(session)
    }
}

async fn transaction(session: &mut Session, jobs: &mut [Box<dyn Job>]) -> Result<(), Undone> {
    session.begin().await?;
    let ran = batch::run(jobs, session).await;
    ran.map_err(Undone::before_commit)?;
    session.commit().await
}

/// An operation of whatever output.
#[async_trait]
pub(super) trait Job: Send {
    fn plain(&self) -> Option<Plain<'_>>;

    /// It was done, with others.
    fn has_written(&mut self);

    /// An error is the transaction's; the operation's own is part of its answer.
    async fn run(&mut self, session: &mut Session) -> Result<(), sqlx::Error>;

    fn answer(self: Box<Self>, undone: Option<&Undone>, waiters: &Waiters);
}

struct Queued<O: Operation> {
    operation: Option<O>,
    outcome: Option<Result<O::Output, StoreError>>,
    reply: oneshot::Sender<Result<O::Output, StoreError>>,
}

#[async_trait]
impl<O: Operation> Job for Queued<O> {
    fn plain(&self) -> Option<Plain<'_>> {
        self.operation.as_ref()?.plain()
    }

    fn has_written(&mut self) {
        let operation = self.operation.take();
        self.outcome = operation.and_then(|operation| operation.written()).map(Ok);
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

    fn answer(self: Box<Self>, undone: Option<&Undone>, waiters: &Waiters) {
        let outcome = match (undone, self.outcome) {
            (Some(undone), _) => Err(undone.to_store_error()),
            (None, Some(outcome)) => outcome,
            (None, None) => Err(writer_has_ended()),
        };
        if let Some(key) = outcome.as_ref().ok().and_then(O::changed) {
            waiters.wake(&key);
        }
        // Nobody may be there to hear it any more.
        drop(self.reply.send(outcome));
    }
}
