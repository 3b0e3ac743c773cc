//! A connection that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::{Connection, Sqlite, SqliteConnection};

use super::database::{Database, FileId, Purpose};
use super::schema;
use super::statements::Statements;
use crate::store::StoreError;
use crate::store::sql::transaction;

/// How many steps of a statement are between two looks at whether it was interrupted.
const STEPS: i32 = 1000;

pub(super) struct WriteSession {
    /// First, so that what still runs is interrupted before the connection is closed.
    interrupt: Interrupt,
    pub(super) connection: SqliteConnection,
    pub(super) statements: Statements,
    pub(super) location: Location,
    pub(super) file: Option<FileId>,
    /// Whether the table is known to be one that this release can use.
    is_usable: bool,
    /// What the connection was like when it was [lent](WriteSession::lend).
    lent_as: Option<String>,
    /// What SQLite is told at each commit, once the connection is [lent](WriteSession::lend).
    may_commit: Arc<AtomicBool>,
}

/// Where the database is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Location {
    /// In a file, where others can read it too.
    File,
    /// In memory, or in a temporary file: it goes with its connections.
    Memory,
}

/// Interrupts the statement of a connection that is dropped while it runs.
#[derive(Default)]
struct Interrupt(Arc<AtomicBool>);

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("the database cannot use WAL mode, only `{0}`: is it on a network share?")]
    NotWal(String),
    #[error(
        "no path: SQLite takes an empty name for a private temporary database; \
         is a variable unset?"
    )]
    Unnamed,
}

impl WriteSession {
    pub(super) async fn open(
        database: &Database,
        purpose: Purpose,
        statements: &Statements,
    ) -> sqlx::Result<Self> {
        if database.is_unnamed() {
            return Err(sqlx::Error::Configuration(Unfit::Unnamed.into()));
        }
        let (mut connection, file) = database.open(purpose).await?;
        let location = location(&mut connection).await?;
        Ok(Self {
            interrupt: Interrupt::default(),
            connection,
            statements: statements.clone(),
            location,
            file: file.filter(|_| location == Location::File),
            is_usable: false,
            lent_as: None,
            may_commit: Arc::default(),
        })
    }

    /// The lock first: a transaction that begins as a reader and then writes fails at once when
    /// another process has written in between.
    pub(super) async fn begin(&mut self) -> sqlx::Result<()> {
        self.execute("BEGIN IMMEDIATE").await
    }

    /// Whether the file that is open is still the one that others find.
    pub(super) fn is_there(&self, database: &Database) -> sqlx::Result<()> {
        let is_there = database.is_there(self.file);
        is_there.map_err(|lost| sqlx::Error::Configuration(lost.into()))
    }

    /// Why something failed: if the file is gone, that is why.
    pub(super) fn reason(&self, error: sqlx::Error, database: &Database) -> sqlx::Error {
        database.reason(error, self.file)
    }

    /// Looks at the table, until it is one that can be used.
    pub(super) async fn check(&mut self) -> sqlx::Result<Result<(), StoreError>> {
        if self.is_usable {
            return Ok(Ok(()));
        }
        let checked = schema::check(&mut self.connection, &self.statements.table).await?;
        self.is_usable = checked.is_ok();
        Ok(checked)
    }

    /// Makes it a connection for handlers, on which nothing is committed but by
    /// [`commit_nestable`](Self::commit_nestable), and whose statements end when it is dropped.
    ///
    /// Some failures (a full disk, `OR ROLLBACK`, a trigger's `RAISE(ROLLBACK)`) end the transaction and
    /// leave a connection that commits each statement by itself. A handler that has not noticed, and
    /// goes on, would have an effect without a record.
    pub(super) async fn lend(&mut self) -> sqlx::Result<()> {
        let may_commit = Arc::clone(&self.may_commit);
        let is_interrupted = Arc::clone(&self.interrupt.0);
        let mut handle = self.connection.lock_handle().await?;
        handle.set_commit_hook(move || may_commit.load(Ordering::Acquire));
        handle.set_progress_handler(STEPS, move || !is_interrupted.load(Ordering::Acquire));
        drop(handle);
        self.lent_as = Some(self.likeness().await?);
        Ok(())
    }

    /// Whether handlers have left it as it was. One that has changed is not lent again: it may keep a lock,
    /// or be read-only.
    pub(super) async fn is_as_lent(&mut self) -> bool {
        let likeness = self.likeness().await;
        likeness.is_ok_and(|likeness| self.lent_as.as_deref() == Some(&likeness))
    }

    async fn likeness(&mut self) -> sqlx::Result<String> {
        let likeness = sqlx::query_scalar(include_str!("sql/session.sql"));
        likeness.fetch_one(&mut self.connection).await
    }

    /// Begins a handler's transaction: what it begins inside of it is a savepoint then.
    pub(super) async fn begin_nestable(&mut self) -> sqlx::Result<()> {
        transaction::begin::<Sqlite>(&mut self.connection, "BEGIN IMMEDIATE").await
    }

    pub(super) async fn commit_nestable(&mut self) -> sqlx::Result<()> {
        self.may_commit.store(true, Ordering::Release);
        let committed = transaction::commit::<Sqlite>(&mut self.connection).await;
        self.may_commit.store(false, Ordering::Release);
        committed
    }

    /// Takes back the whole of a handler's transaction, and what a handler that was cut off has left
    /// running in it.
    pub(super) async fn roll_back_nestable(&mut self) -> sqlx::Result<()> {
        self.interrupt.0.store(true, Ordering::Release);
        transaction::roll_back::<Sqlite>(&mut self.connection).await?;
        self.interrupt.0.store(false, Ordering::Release);
        Ok(())
    }

    pub(super) async fn execute(&mut self, statement: &'static str) -> sqlx::Result<()> {
        let executed = sqlx::query(statement).execute(&mut self.connection);
        executed.await.map(drop)
    }

    pub(super) async fn commit(&mut self) -> sqlx::Result<()> {
        self.execute("COMMIT").await
    }

    /// After a failure: a file is opened afresh; what is in memory would be gone then.
    pub(super) async fn recover(mut self) -> Option<Self> {
        match self.location {
            Location::File => {
                self.close().await;
                None
            }
            Location::Memory => {
                // An error says that it has been rolled back already.
                drop(self.execute("ROLLBACK").await);
                Some(self)
            }
        }
    }

    /// What was acknowledged is stored already, so that an error here means nothing.
    pub(super) async fn close(self) {
        drop(self.connection.close().await);
    }
}

async fn location(connection: &mut SqliteConnection) -> Result<Location, sqlx::Error> {
    let file = "SELECT file FROM pragma_database_list WHERE name = 'main'";
    let file: Option<String> = sqlx::query_scalar(file).fetch_one(&mut *connection).await?;
    if file.is_none_or(|file| file.is_empty()) {
        return Ok(Location::Memory);
    }
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(connection)
        .await?;
    match mode.as_str() {
        "wal" => Ok(Location::File),
        _ => Err(sqlx::Error::Configuration(Unfit::NotWal(mode).into())),
    }
}
