//! The database: how its connections are opened, and whether its file is still the one they have open.

use std::fs;
use std::io;
use std::path::{Path, PathBuf, absolute};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::time::sleep;

use super::error::is_busy;

/// How long SQLite itself waits for a lock: its wait cannot be given up. Waiting for longer is done
/// here, in pieces of that length.
const SLICE: Duration = Duration::from_millis(50);

/// Between two of those pieces, because some locks SQLite does not wait for at all.
pub(super) const PAUSE: Duration = Duration::from_millis(1);

/// How long opening is tried again while others hold the file: a change to WAL does not wait for them
/// by itself, not even for as long as the busy timeout says.
const OPENING: Duration = Duration::from_secs(5);
const BETWEEN_OPENINGS: Duration = Duration::from_millis(10);

/// What a connection is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Write,
    /// For handlers, to write through.
    Lend,
    Read,
}

/// One database, of which any number of connections can be opened.
pub(super) struct Database {
    options: SqliteConnectOptions,
    /// Where it is; `None` if it is no file, or one that only SQLite can find.
    path: Option<PathBuf>,
    /// How long to wait for other processes' locks: the busy timeout of the given options.
    patience: OnceLock<Duration>,
    /// From then on it is not created any more: a file that was deleted does not come back empty.
    was_open: AtomicBool,
    /// The file that the writer has made ready for readers; `None` before, and if there can be none.
    prepared: Mutex<Option<Option<FileId>>>,
}

/// A connection, and the file that it has open.
pub(super) type Opened = (SqliteConnection, Option<FileId>);

/// Which file it is, wherever it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FileId {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
}

/// The file at the path is not the one that the store has used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LostFile {
    #[error("the database file was deleted or moved; the store uses it again once it is back")]
    Gone,
    #[error("the database file was replaced by another one while it was in use")]
    Replaced,
}

impl Database {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        // Where it is now: the process may change its directory later.
        let path = path_of(&options);
        let options = match &path {
            Some(path) => options.filename(path),
            None => options,
        };
        Self {
            options,
            path,
            patience: OnceLock::new(),
            was_open: AtomicBool::new(false),
            prepared: Mutex::default(),
        }
    }

    /// Whether the options name no file at all: SQLite takes that for a private temporary database.
    pub(super) fn is_unnamed(&self) -> bool {
        is_blank(self.options.get_filename())
    }

    /// Where it is; `None` if it is no file, or one that only SQLite can find.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Opens a connection. Dropping the future leaves nothing behind for longer than a moment.
    pub(super) async fn open(&self, purpose: Purpose) -> sqlx::Result<Opened> {
        let patience = self.patience().await?;
        let started = Instant::now();
        loop {
            let before = self.file();
            let was_open = self.was_open.load(Ordering::Acquire);
            if was_open && matches!(before, Ok(None)) {
                return Err(sqlx::Error::Configuration(LostFile::Gone.into()));
            }
            let creates = purpose != Purpose::Read && !was_open;
            match self.options(purpose, creates, patience).connect().await {
                Err(error) if is_busy(&error) && started.elapsed() < OPENING => {}
                Err(error) => return Err(self.reason(error, before.ok().flatten())),
                Ok(connection) => {
                    self.was_open.store(true, Ordering::Release);
                    let file = self.file().ok().flatten();
                    // It must be known which one was opened.
                    let is_known = before.ok().flatten().is_none_or(|it| Some(it) == file);
                    if is_known || started.elapsed() >= OPENING {
                        return Ok((connection, file));
                    }
                }
            }
            sleep(BETWEEN_OPENINGS).await;
        }
    }

    fn options(&self, purpose: Purpose, creates: bool, patience: Duration) -> SqliteConnectOptions {
        let options = self.options.clone().busy_timeout(SLICE.min(patience));
        let options = match creates {
            true => options,
            false => options.create_if_missing(false),
        };
        match purpose {
            // What a statement has to undo if it fails is kept in a file once it is more than 64 KiB,
            // and that is less than a group changes.
            Purpose::Write => options.pragma("temp_store", "MEMORY"),
            Purpose::Lend => options,
            Purpose::Read => options.read_only(true),
        }
    }

    /// The options do not tell: a connection does, and one to a database in memory waits for no lock.
    pub(super) async fn patience(&self) -> sqlx::Result<Duration> {
        if let Some(patience) = self.patience.get() {
            return Ok(*patience);
        }
        let options = self.options.clone().filename(":memory:");
        let mut connection = options
            .in_memory(true)
            .shared_cache(false)
            .connect()
            .await?;
        let millis: i64 = sqlx::query_scalar("PRAGMA busy_timeout")
            .fetch_one(&mut connection)
            .await?;
        drop(connection.close().await);
        let patience = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        Ok(*self.patience.get_or_init(|| patience))
    }

    /// From now on readers use this file.
    pub(super) fn prepare(&self, file: Option<FileId>) {
        *self.prepared.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }

    /// Whether a connection to this file is one that readers use.
    pub(super) fn is_prepared(&self, file: Option<FileId>) -> bool {
        self.prepared() == Some(file)
    }

    /// Whether there are connections that only read: not before the writer has prepared the file that is
    /// there now, and never for a database in memory.
    pub(super) fn is_readable(&self) -> bool {
        let prepared = self.prepared();
        prepared.is_some_and(|file| self.is_there(file).is_ok())
    }

    fn prepared(&self) -> Option<Option<FileId>> {
        *self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is this file that is there. What cannot be found out is taken for granted.
    pub(super) fn is_there(&self, opened: Option<FileId>) -> Result<(), LostFile> {
        match (opened, self.file()) {
            (Some(_), Ok(None)) => Err(LostFile::Gone),
            (Some(opened), Ok(Some(file))) if opened != file => Err(LostFile::Replaced),
            _ => Ok(()),
        }
    }

    /// Why something failed: if the file is gone, that is why.
    pub(super) fn reason(&self, error: sqlx::Error, opened: Option<FileId>) -> sqlx::Error {
        match self.is_there(opened) {
            Ok(()) => error,
            Err(lost) => sqlx::Error::Configuration(lost.into()),
        }
    }

    /// The file that is there now.
    fn file(&self) -> io::Result<Option<FileId>> {
        let Some(path) = &self.path else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(FileId::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl FileId {
    #[cfg(unix)]
    fn of(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Where a file that is open cannot be deleted.
    #[cfg(not(unix))]
    fn of(_metadata: &fs::Metadata) -> Self {
        Self {}
    }
}

fn is_blank(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.trim().is_empty())
}

fn path_of(options: &SqliteConnectOptions) -> Option<PathBuf> {
    let path = options.get_filename();
    // A name in SQLite's own ways is left to it.
    let is_special = is_blank(path) || path.to_str().is_some_and(|name| name.starts_with("file:"));
    if is_special || path == Path::new(":memory:") {
        return None;
    }
    absolute(path).ok()
}
