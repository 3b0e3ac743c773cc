//! Where the records are: the connections, and who writes.

use std::sync::{Arc, OnceLock};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous};

use super::database::Database;
use super::each::{Each, Item};
use super::error::{NAME, store_error};
use super::job::WriteOperation;
use super::readers::Readers;
use super::row;
use super::shared::SharedState;
use super::statements::Statements;
use super::time::Time;
use super::transaction::SqliteTransactions;
use super::writer::WriterThread;
use crate::store::sql::{TableName, corrupt};
use crate::store::{Claim, ClaimRequest, StoreError, StoreErrorKind};

/// A table of records.
pub(super) struct Records {
    pub(super) database: Arc<Database>,
    pub(super) statements: Statements,
    pub(super) readers: Arc<Readers>,
    writer: OnceLock<WriterThread>,
    pub(super) shared: Arc<SharedState>,
}

impl Records {
    pub(super) fn new(options: &SqliteConnectOptions, table: &TableName) -> Self {
        let durable = options
            .clone()
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // Or the writer would lock out the readers, and the application.
            .locking_mode(SqliteLockingMode::Normal)
            // On macOS the disk keeps what it has been given for itself unless it is told twice.
            .pragma("fullfsync", "ON")
            .pragma("checkpoint_fullfsync", "ON")
            // Pages of 4 KiB: a page that many claims have changed is moved to the file once, and
            // the two disk flushes of a checkpoint come a fourth as often.
            .pragma("wal_autocheckpoint", "4000");
        let statements = Statements::new(table);
        let read_all = statements.read_all.clone();
        let database = Arc::new(Database::new(durable));
        Self {
            readers: Arc::new(Readers::new(Arc::clone(&database), read_all)),
            database,
            statements,
            writer: OnceLock::new(),
            shared: Arc::default(),
        }
    }

    /// Started by the first call: before it, the table can be another.
    fn writer(&self) -> Result<&WriterThread, StoreError> {
        if let Some(writer) = self.writer.get() {
            return Ok(writer);
        }
        let started = WriterThread::start(
            Arc::clone(&self.database),
            self.statements.clone(),
            Arc::clone(&self.shared),
        );
        let writer = started.map_err(|cause| {
            let error = StoreError::new(NAME, StoreErrorKind::Unavailable);
            error.not_executed().with_source(cause)
        })?;
        // Of two that are started at once, the one that comes late ends at once.
        Ok(self.writer.get_or_init(|| writer))
    }

    pub(super) async fn write<W: WriteOperation>(&self, work: W) -> Result<W::Output, StoreError> {
        self.writer()?.run(work).await
    }

    /// The answer to a claim, when that changes nothing and will be as true when the caller hears
    /// it: `None` sends it to the writer.
    pub(super) async fn replay(
        &self,
        request: &ClaimRequest<'_>,
    ) -> Result<Option<Claim>, StoreError> {
        let (read, now) = (self.statements.read.clone(), Time::now());
        let columns = self.readers.look_up(read, &request.owner.key).await;
        let Some(row) = row::alive(columns.map_err(store_error)?, now)? else {
            return Ok(None);
        };
        let replayed = row.replay(&request.fingerprint, request.owner.token);
        replayed.map_err(|cause| corrupt(NAME, cause))
    }

    /// As many results as there are items.
    pub(super) async fn each<I: Item>(&self, items: Vec<I>) -> Vec<Result<bool, StoreError>> {
        let number = items.len();
        if number == 0 {
            return Vec::new();
        }
        match self.write(Each(items)).await {
            Ok(done) => done.into_iter().map(|(_, is_done)| is_done).collect(),
            Err(error) => vec![Err(error); number],
        }
    }

    pub(super) fn transactions(&self) -> SqliteTransactions {
        SqliteTransactions {
            database: Arc::clone(&self.database),
            statements: self.statements.clone(),
            readers: Arc::clone(&self.readers),
            shared: Arc::clone(&self.shared),
        }
    }
}
