//! The connection that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection};

use super::failure::{Undone, is_busy};
use super::statements::Statements;
use crate::store::sql::transaction;

/// How long opening is tried again while others hold the file: a change to WAL does not wait for
/// them by itself, not even for as long as the busy timeout says.
const OPENING: Duration = Duration::from_secs(5);
const BETWEEN_OPENINGS: Duration = Duration::from_millis(10);

pub(super) struct Session {
    pub(super) connection: SqliteConnection,
    pub(super) statements: Statements,
    pub(super) place: Place,
    /// What SQLite is told at each commit, once the connection is [lent](Session::lend).
    may_commit: Arc<AtomicBool>,
}

/// Where the database is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In a file, where others can read it too.
    File,
    /// In memory, or in a temporary file: it goes with its connections.
    Memory,
}

#[derive(Debug, thiserror::Error)]
#[error("the database cannot be in WAL mode, it is in mode `{0}`: is it on a network share?")]
struct NotWal(String);

impl Session {
    /// Blocks while it waits for others.
    pub(super) async fn open(
        options: &SqliteConnectOptions,
        statements: &Statements,
    ) -> Result<Self, sqlx::Error> {
        let started = Instant::now();
        let mut connection = loop {
            match options.connect().await {
                Err(error) if is_busy(&error) && started.elapsed() < OPENING => {
                    std::thread::sleep(BETWEEN_OPENINGS);
                }
                opened => break opened?,
            }
        };
        let place = place(&mut connection).await?;
        Ok(Self {
            connection,
            statements: statements.clone(),
            place,
            may_commit: Arc::default(),
        })
    }

    /// The lock first: a transaction that begins as a reader and then writes fails at once when
    /// another process has written in between.
    pub(super) async fn begin(&mut self) -> Result<(), Undone> {
        let begun = sqlx::query("BEGIN IMMEDIATE").execute(&mut self.connection);
        begun.await.map_err(Undone::before_commit)?;
        Ok(())
    }

    /// Makes it a connection for handlers, on which nothing is committed but by
    /// [`commit_nestable`](Self::commit_nestable).
    ///
    /// Some failures (a full disk, `OR ROLLBACK`, a trigger's `RAISE(ROLLBACK)`) end the transaction and
    /// leave a connection that commits each statement by itself. A handler that has not noticed, and
    /// goes on, would have an effect without a record.
    pub(super) async fn lend(&mut self) -> sqlx::Result<()> {
        let may_commit = Arc::clone(&self.may_commit);
        let mut handle = self.connection.lock_handle().await?;
        handle.set_commit_hook(move || may_commit.load(Ordering::Acquire));
        Ok(())
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

    pub(super) async fn execute(&mut self, statement: &'static str) -> sqlx::Result<()> {
        let executed = sqlx::query(statement).execute(&mut self.connection);
        executed.await.map(drop)
    }

    pub(super) async fn commit(&mut self) -> Result<(), Undone> {
        let committed = sqlx::query("COMMIT").execute(&mut self.connection);
        committed.await.map_err(Undone::at_commit)?;
        Ok(())
    }

    /// After a failure: a file is opened afresh; what is in memory would be gone then.
    pub(super) async fn recover(mut self) -> Option<Self> {
        match self.place {
            Place::File => {
                self.close().await;
                None
            }
            Place::Memory => {
                // An error says that it has been rolled back already.
                let rollback = sqlx::query("ROLLBACK").execute(&mut self.connection);
                drop(rollback.await);
                Some(self)
            }
        }
    }

    /// What was acknowledged is stored already, so that an error here means nothing.
    pub(super) async fn close(self) {
        drop(self.connection.close().await);
    }
}

async fn place(connection: &mut SqliteConnection) -> Result<Place, sqlx::Error> {
    let file = "SELECT file FROM pragma_database_list WHERE name = 'main'";
    let file: Option<String> = sqlx::query_scalar(file).fetch_one(&mut *connection).await?;
    if file.is_none_or(|file| file.is_empty()) {
        return Ok(Place::Memory);
    }
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(connection)
        .await?;
    match mode.as_str() {
        "wal" => Ok(Place::File),
        _ => Err(sqlx::Error::Configuration(NotWal(mode).into())),
    }
}
