//! A few connections for one kind of operation.
//!
//! Not a pool of sqlx: that one keeps a connection whose peer is gone without a word, because it asks each
//! connection that comes back whether it is there, and waits for as long as it takes; and it belongs to
//! the application, whose handlers may have taken all that it has.
//!
//! **A connection belongs to the future that waits for its reply.** A future that is dropped closes it; what
//! the reply says decides whether anything else is ever sent on it; and nothing has to be asked or awaited
//! to put it back.
//!
//! **One that was silent makes the others suspect.** When a call was given up without a reply, or its
//! connection turned out to be broken, all idle connections that were last heard of before it was sent
//! are closed: connections to a peer that is gone go together, not one time-out after the other.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::{PgArguments, PgRow};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::NAME;
use super::connector::{CONNECT_TIMEOUT, Connector};
use super::error::{is_of_connection, store_error};
use crate::store::{StoreError, StoreErrorKind};

/// How long a connection may be unused before it is closed.
const IDLE_LIMIT: Duration = Duration::from_secs(10 * 60);

/// How long a connection is used at all, so that those to a new server come in time.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

pub(super) type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, PgArguments>;

pub(super) struct Lane {
    connector: Connector,
    connections: u32,
    permits: Semaphore,
    /// The one that was used last is used next.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: PgConnection,
    connected_at: Instant,
    heard_at: Instant,
}

/// The right to use one connection.
pub(super) struct Place<'a> {
    lane: &'a Lane,
    _permit: SemaphorePermit<'a>,
}

impl Lane {
    pub(super) fn new(connector: Connector, connections: u32) -> Self {
        let permits = usize::try_from(connections).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            connector,
            connections,
            permits: Semaphore::new(permits.min(Semaphore::MAX_PERMITS)),
            idle: Mutex::default(),
        }
    }

    pub(super) fn connections(&self) -> u32 {
        self.connections
    }

    /// Waits until one of the connections is free.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::TimedOut`]; nothing was executed.
    pub(super) async fn place(&self) -> Result<Place<'_>, StoreError> {
        match timeout(CONNECT_TIMEOUT, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(Place {
                lane: self,
                _permit: permit,
            }),
            Ok(Err(_)) | Err(_) => {
                Err(StoreError::new(NAME, StoreErrorKind::TimedOut).not_executed())
            }
        }
    }

    /// The rows of one statement, which may be sent twice: see [`Place::rows`].
    pub(super) async fn rows<'q>(
        &self,
        patience: Option<Duration>,
        query: impl Fn() -> Query<'q>,
    ) -> Result<Vec<PgRow>, StoreError> {
        self.place().await?.rows(patience, query).await
    }

    fn take(&self) -> Option<Idle> {
        let mut idle = self.idle();
        let now = Instant::now();
        idle.retain(|one| now < one.heard_at + IDLE_LIMIT && now < one.connected_at + LIFETIME);
        idle.pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// The rows of one statement.
    ///
    /// A connection that was idle can have been closed by the server meanwhile, be read-only by now, or have
    /// prepared what no longer fits. When it says so, or breaks, the statement is sent once more on a
    /// fresh one; so it has to be one that may be repeated. With `patience`, it is also when an idle
    /// connection says nothing for that long.
    ///
    /// # Errors
    ///
    /// [`StoreError`], of both times together.
    pub(super) async fn rows<'q>(
        &self,
        patience: Option<Duration>,
        query: impl Fn() -> Query<'q>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let mut may_have_happened = false;
        if let Some(idle) = self.lane.take() {
            let asking = self.ask(idle, query());
            let reply = match patience {
                Some(patience) => timeout(patience, asking).await.ok(),
                None => Some(asking.await),
            };
            match reply {
                Some(Ok(rows)) => return Ok(rows),
                Some(Err(error)) if !is_of_connection(&error) => return Err(store_error(error)),
                Some(Err(error)) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "an idle connection was of no use, trying a fresh one"
                    );
                    may_have_happened = store_error(error).may_have_happened();
                }
                None => may_have_happened = true,
            }
        }
        let fresh = async {
            let connection = self.lane.connector.connect().await?;
            let now = Instant::now();
            let fresh = Idle {
                connection,
                connected_at: now,
                heard_at: now,
            };
            self.ask(fresh, query()).await.map_err(store_error)
        };
        fresh.await.map_err(|error: StoreError| {
            if may_have_happened {
                error.maybe_executed()
            } else {
                error
            }
        })
    }

    /// Owns the connection until there is a reply.
    async fn ask(&self, mut with: Idle, query: Query<'_>) -> sqlx::Result<Vec<PgRow>> {
        let unanswered = Unanswered {
            lane: self.lane,
            asked_at: Instant::now(),
            is_answered: false,
        };
        let reply = query.fetch_all(&mut with.connection).await;
        if !reply.as_ref().is_err_and(is_of_connection) {
            unanswered.answered();
            with.heard_at = Instant::now();
            self.lane.idle().push(with);
        }
        reply
    }
}

/// A statement that was sent. Unless it is answered, what else is idle is not trusted any more.
struct Unanswered<'a> {
    lane: &'a Lane,
    asked_at: Instant,
    is_answered: bool,
}

impl Unanswered<'_> {
    fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            let asked_at = self.asked_at;
            self.lane.idle().retain(|one| one.heard_at > asked_at);
        }
    }
}
