//! One transaction of the writer's: from the lock to the answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::batch;
use super::database::{Database, PAUSE, Purpose};
use super::error::{NAME, commit_error, is_busy, store_error};
use super::job::Job;
use super::queue::WriterQueue;
use super::session::{Location, WriteSession};
use super::shared::SharedState;
use super::statements::Statements;
use crate::store::{StoreError, StoreErrorKind};

/// How many operations one transaction has at most.
const GROUP: usize = 256;

pub(super) struct Group {
    database: Arc<Database>,
    statements: Statements,
    shared: Arc<SharedState>,
    session: Option<WriteSession>,
    /// How many operations the next transaction has at most.
    size: usize,
}

impl Group {
    pub(super) fn new(
        database: Arc<Database>,
        statements: Statements,
        shared: Arc<SharedState>,
    ) -> Self {
        Self {
            database,
            statements,
            shared,
            session: None,
            size: GROUP,
        }
    }

    /// Answers some of the callers that wait, or finds that they have left.
    pub(super) async fn serve(&mut self, queue: &WriterQueue) {
        let (mut session, patience) = match self.opened().await {
            Ok(opened) => opened,
            Err(error) => return self.refuse_all(queue, error),
        };
        let turn = Arc::clone(&self.shared.turn);
        let _turn = turn.lock().await;
        match self.begin(&mut session, patience, queue).await {
            Ok(true) => {}
            // No caller is left, and nothing was begun.
            Ok(false) => {
                self.session = Some(session);
                return;
            }
            Err(error) => {
                self.session = session.recover().await;
                return self.refuse_all(queue, error);
            }
        }
        // Not before: a caller that has given up while others had the lock is not among them.
        let mut jobs = queue.take(self.size);
        let committed = self.commit(&mut session, &mut jobs).await;
        self.session = match &committed {
            Ok(()) => {
                self.size = (2 * self.size).min(GROUP);
                Some(session)
            }
            Err(_) => {
                // What has no room, or hits a damaged page, takes its group along: the next ones go alone, so
                // that leases are renewed all the same.
                self.size = 1;
                session.recover().await
            }
        };
        self.answer(jobs, committed.err().as_ref());
    }

    /// Gets the lock, as long as a caller is there that has not waited for too long; `false` when none is.
    async fn begin(
        &self,
        session: &mut WriteSession,
        patience: Duration,
        queue: &WriterQueue,
    ) -> sqlx::Result<bool> {
        loop {
            match session.begin().await {
                Ok(()) => break,
                Err(error) if is_busy(&error) => {
                    let error = store_error(error);
                    self.answer(queue.take_older_than(patience), Some(&error));
                    if queue.is_empty() {
                        return Ok(false);
                    }
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(session.reason(error, &self.database)),
            }
        }
        session.is_there(&self.database)?;
        Ok(true)
    }

    async fn commit(
        &self,
        session: &mut WriteSession,
        jobs: &mut [Box<dyn Job>],
    ) -> Result<(), StoreError> {
        let ran = match session.check().await {
            Ok(Ok(())) => {
                self.let_read(session);
                batch::run(jobs, session).await
            }
            Ok(Err(unusable)) => run_without_table(jobs, session, &unusable).await,
            Err(error) => Err(error),
        };
        ran.map_err(|error| store_error(session.reason(error, &self.database)))?;
        session.commit().await.map_err(commit_error)?;
        // What was written to a file that is not found any more is as good as not written.
        session
            .is_there(&self.database)
            .map_err(|lost| StoreError::new(NAME, StoreErrorKind::Unavailable).with_source(lost))
    }

    fn refuse_all(&self, queue: &WriterQueue, error: sqlx::Error) {
        self.answer(queue.take(usize::MAX), Some(&store_error(error)));
    }

    fn answer(&self, jobs: Vec<Box<dyn Job>>, undone: Option<&StoreError>) {
        for job in jobs {
            job.answer(undone, &self.shared.waiters);
        }
    }

    /// With how long to wait for others' locks.
    async fn opened(&mut self) -> sqlx::Result<(WriteSession, Duration)> {
        let patience = self.database.patience().await?;
        let Some(session) = self.session.take() else {
            return Ok((self.open().await?, patience));
        };
        let Err(lost) = session.is_there(&self.database) else {
            return Ok((session, patience));
        };
        tracing::error!(
            error = &lost as &dyn std::error::Error,
            "the sqlite store has lost its database file"
        );
        session.close().await;
        Ok((self.open().await?, patience))
    }

    async fn open(&self) -> sqlx::Result<WriteSession> {
        let database = &self.database;
        let mut session = WriteSession::open(database, Purpose::Write, &self.statements).await?;
        // It waits for no lock. If it fails, it is repeated under the lock.
        if let Ok(Ok(())) = session.check().await {
            self.let_read(&session);
        }
        Ok(session)
    }

    /// Not before the table is known to be one that can be used: a reader does not check it, and its error says nothing
    /// of what to do about a table that is missing.
    fn let_read(&self, session: &WriteSession) {
        if session.location == Location::File {
            self.database.prepare(session.file);
        }
    }

    pub(super) async fn close(self) {
        if let Some(session) = self.session {
            session.close().await;
        }
    }
}

/// Makes the table, if that is among them; nothing else is done.
async fn run_without_table(
    jobs: &mut [Box<dyn Job>],
    session: &mut WriteSession,
    unusable: &StoreError,
) -> sqlx::Result<()> {
    for job in jobs {
        if job.needs_table() {
            job.refuse(unusable.clone());
        } else {
            job.run(session).await?;
        }
    }
    Ok(())
}
