//! Connections that only read: they wait for no writer, and no writer for them.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use sqlx::{Connection, SqlStr};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::sleep;

use super::batches::Batches;
use super::database::{Database, FileId, Opened, PAUSE, Purpose};
use super::error::is_busy;
use super::row::{self, Columns, fetch, fetch_all};
use crate::key::RecordKey;
use crate::store::StoreError;
use crate::store::listing::Looked;

/// How many connections callers have at most. Each has a thread of its own.
pub(super) const MOST: u32 = 2;

/// How many look-ups wait at most for the one that makes many at once.
const QUEUE: usize = 1024;

/// How many it makes at once.
const GROUP: usize = 32;

/// An own small pool and not sqlx's, which ties its connections to the runtime that made them: a
/// store may serve several.
pub(super) struct Readers {
    database: Arc<Database>,
    pub(super) permits: Semaphore,
    idle: Mutex<Vec<Opened>>,
    read_all: Batches,
    /// Started by the first that finds the connections busy.
    many: OnceLock<mpsc::Sender<LookUp>>,
}

/// What is asked together with others.
struct LookUp {
    key: RecordKey,
    answer: oneshot::Sender<Option<Columns>>,
}

impl Readers {
    pub(super) fn new(database: Arc<Database>, read_all: Batches) -> Self {
        Self {
            database,
            permits: Semaphore::new(MOST as usize),
            idle: Mutex::default(),
            read_all,
            many: OnceLock::new(),
        }
    }

    pub(super) async fn fetch(
        &self,
        read: SqlStr,
        key: &RecordKey,
    ) -> Result<Option<Columns>, sqlx::Error> {
        // It is never closed, so that having none is no error: there are only more connections.
        let _permit = self.permits.acquire().await.ok();
        let mut opened = self.opened().await?;
        let started = Instant::now();
        let columns = loop {
            match fetch(&mut opened.0, read.clone(), key).await {
                Ok(columns) => break columns,
                Err(error) => self.wait_or_fail(error, opened.1, started).await?,
            }
        };
        // Only after success: what failed or was given up half-way is closed.
        self.idle().push(opened);
        Ok(columns)
    }

    /// The rows of a listing after this key.
    pub(super) async fn list(
        &self,
        list: SqlStr,
        after: &RecordKey,
    ) -> Result<Vec<Looked<StoreError>>, sqlx::Error> {
        let _permit = self.permits.acquire().await.ok();
        let mut opened = self.opened().await?;
        let started = Instant::now();
        let rows = loop {
            match row::list(&mut opened.0, list.clone(), after).await {
                Ok(rows) => break rows,
                Err(error) => self.wait_or_fail(error, opened.1, started).await?,
            }
        };
        self.idle().push(opened);
        Ok(rows)
    }

    async fn opened(&self) -> sqlx::Result<Opened> {
        let idle = self.idle().pop();
        still_there(idle, &self.database).await
    }

    /// A process that recovers the log, or is the last to close it, locks readers out.
    async fn wait_or_fail(
        &self,
        error: sqlx::Error,
        file: Option<FileId>,
        started: Instant,
    ) -> sqlx::Result<()> {
        let is_worth_it = is_busy(&error) && started.elapsed() < self.database.patience().await?;
        if !is_worth_it {
            return Err(self.database.reason(error, file));
        }
        sleep(PAUSE).await;
        Ok(())
    }

    /// The same for a statement that reads what `read_all` does. When all connections are busy, it is
    /// asked for together with others: most of what it costs is the way to SQLite's thread and back.
    pub(super) async fn look_up(
        &self,
        read: SqlStr,
        key: &RecordKey,
    ) -> Result<Option<Columns>, sqlx::Error> {
        if self.permits.available_permits() == 0
            && let Some(many) = self.many()
        {
            let (answer, answered) = oneshot::channel();
            let asked = many.try_send(LookUp { key: *key, answer });
            if asked.is_ok()
                && let Ok(columns) = answered.await
            {
                return Ok(columns);
            }
        }
        // Also if that has failed, whatever the reason: this way it is told.
        self.fetch(read, key).await
    }

    /// `None` if its thread cannot be had.
    fn many(&self) -> Option<&mpsc::Sender<LookUp>> {
        if let Some(many) = self.many.get() {
            return Some(many);
        }
        let many = start(Arc::clone(&self.database), self.read_all.clone()).ok()?;
        // Of two that are started at once, the one that comes late ends at once.
        Some(self.many.get_or_init(|| many))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Opened>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection to the file that the writer has: this one, or a new one.
async fn still_there(opened: Option<Opened>, database: &Database) -> sqlx::Result<Opened> {
    match opened {
        Some(opened) if database.is_prepared(opened.1) => Ok(opened),
        _ => database.open(Purpose::Read).await,
    }
}

/// A thread, and not one of the callers, with whom all others' look-ups would stand still.
fn start(database: Arc<Database>, read_all: Batches) -> io::Result<mpsc::Sender<LookUp>> {
    let (sender, mut queue) = mpsc::channel(QUEUE);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let serve = async move {
        let (mut asked, mut opened) = (Vec::with_capacity(GROUP), None);
        while queue.recv_many(&mut asked, GROUP).await > 0 {
            let asked = std::mem::take(&mut asked);
            // What failed is closed, and a caller that gets no answer asks by itself.
            opened = answer(opened, &database, &read_all, asked).await.ok();
        }
        if let Some((connection, _)) = opened {
            drop(connection.close().await);
        }
    };
    std::thread::Builder::new()
        .name("idempotent-sqlite-reader".to_owned())
        .spawn(move || runtime.block_on(serve))?;
    Ok(sender)
}

async fn answer(
    opened: Option<Opened>,
    database: &Database,
    read_all: &Batches,
    asked: Vec<LookUp>,
) -> sqlx::Result<Opened> {
    let mut opened = still_there(opened, database).await?;
    // Several may ask for the same.
    let mut waiting: HashMap<RecordKey, Vec<_>> = HashMap::new();
    let still_asked = asked.into_iter().filter(|it| !it.answer.is_closed());
    for LookUp { key, answer } in still_asked {
        waiting.entry(key).or_default().push(answer);
    }
    let Some(statement) = read_all.of(waiting.len()) else {
        return Ok(opened);
    };
    let found = fetch_all(&mut opened.0, statement, waiting.keys()).await?;
    // There may be no caller left to hear it.
    for (key, columns) in found {
        let mut answers = waiting.remove(&key).unwrap_or_default();
        let last = answers.pop();
        for answer in answers {
            drop(answer.send(Some(columns.clone())));
        }
        if let Some(answer) = last {
            drop(answer.send(Some(columns)));
        }
    }
    for answer in waiting.into_values().flatten() {
        drop(answer.send(None));
    }
    Ok(opened)
}
