//! Connections that only read: they wait for no writer, and no writer for them.

use std::sync::{Mutex, PoisonError};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqlStr, SqliteConnection};
use tokio::sync::Semaphore;

use super::row::{Columns, fetch};
use crate::key::RecordKey;

/// How many connections there are at most. Each has a thread of its own.
const MOST: usize = 4;

/// An own small pool and not sqlx's, which ties its connections to the runtime that made them: a
/// store may serve several.
pub(super) struct Readers {
    options: SqliteConnectOptions,
    permits: Semaphore,
    idle: Mutex<Vec<SqliteConnection>>,
}

impl Readers {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self {
            options: options.create_if_missing(false).read_only(true),
            permits: Semaphore::new(MOST),
            idle: Mutex::default(),
        }
    }

    pub(super) async fn fetch(
        &self,
        read: SqlStr,
        key: &RecordKey,
    ) -> Result<Option<Columns>, sqlx::Error> {
        // It is never closed, so that having none is no error: there are only more connections.
        let _permit = self.permits.acquire().await.ok();
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        let columns = fetch(&mut connection, read, key).await?;
        // Only after success: what failed or was given up half-way is closed.
        self.idle().push(connection);
        Ok(columns)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SqliteConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
