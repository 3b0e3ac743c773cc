//! A few connections for one kind of operation.
//!
//! Not a pool of sqlx: the application's handlers may have taken all connections of that one, and it
//! waits for as long as it takes when it asks whether a connection is still there.
//!
//! **A connection belongs to the call that waits for its reply.** A call that is dropped closes it, and
//! what the reply says decides whether it is used again. Nothing is awaited to put it back.
//!
//! **One that was silent or broken makes the others suspect.** Idle connections that were last heard of
//! before a call that got no reply are closed, and so are all that are older than the news that the
//! server is read-only, demoted or gone: connections to a peer that is gone go together, not one time-out
//! after the other.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Connection as _, MySqlConnection, MySqlPool};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::failure::{self, Failure};
use super::row::column;
use super::statements::SESSION;
use super::{CONNECT_TIMEOUT, NAME};
use crate::store::{StoreError, StoreErrorKind};

/// How long a call waits for one of the connections to be free.
const QUEUE_LIMIT: Duration = Duration::from_secs(5);

/// An idle connection is asked whether it is still there before it is used after this long.
const IDLE_BEFORE_PING: Duration = Duration::from_secs(1);

/// How long it may take to say so.
const PING_LIMIT: Duration = Duration::from_millis(500);

/// How long a connection may be unused before it is closed.
const IDLE_LIMIT: Duration = Duration::from_secs(10 * 60);

/// How long a connection is used at all, so that those to a new server come in time.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// What the lanes of one store know of its server.
#[derive(Default)]
pub(super) struct Health {
    /// Counts the times that connections turned out to be of no use.
    generation: AtomicU64,
    /// The latest question that got no reply.
    silent_since: Mutex<Option<Instant>>,
}

pub(super) struct Lane {
    /// For its options only: the application may change them, as when a password is rotated.
    pool: MySqlPool,
    health: Arc<Health>,
    permits: Semaphore,
    /// The one that was used last is used next.
    idle: Mutex<Vec<Connection>>,
}

/// A connection with the settings of `session.sql`.
pub(super) struct Connection {
    connection: MySqlConnection,
    /// The most bytes that the server takes in one packet of this connection.
    max_packet_bytes: usize,
    generation: u64,
    connected_at: Instant,
    heard_at: Instant,
}

/// One call: at most two tries, the second on a fresh connection.
pub(super) struct Call<'a> {
    lane: &'a Lane,
    /// It was sent by a connection that broke.
    was_sent: bool,
    is_second: bool,
}

/// A connection, and the right to use it. Dropped, it is closed.
pub(super) struct OnLoan<'a> {
    lane: &'a Lane,
    /// Missing once it was given back.
    connection: Option<Connection>,
    was_idle: bool,
    asked_at: Instant,
    _permit: SemaphorePermit<'a>,
}

impl Lane {
    pub(super) fn new(pool: MySqlPool, health: Arc<Health>, connections: u32) -> Self {
        let permits = usize::try_from(connections).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            pool,
            health,
            permits: Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS)),
            idle: Mutex::default(),
        }
    }

    /// For an operation that may be repeated.
    pub(super) fn call(&self) -> Call<'_> {
        Call {
            lane: self,
            was_sent: false,
            is_second: false,
        }
    }

    /// A new connection.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing was executed.
    pub(super) async fn fresh(&self) -> Result<OnLoan<'_>, StoreError> {
        self.idle().clear();
        self.borrow().await
    }

    async fn borrow(&self) -> Result<OnLoan<'_>, StoreError> {
        let permit = match timeout(QUEUE_LIMIT, self.permits.acquire()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => {
                return Err(StoreError::new(NAME, StoreErrorKind::TimedOut).not_executed());
            }
        };
        let idle = self.idle_connection().await;
        let was_idle = idle.is_some();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(OnLoan {
            lane: self,
            connection: Some(connection),
            was_idle,
            asked_at: Instant::now(),
            _permit: permit,
        })
    }

    async fn idle_connection(&self) -> Option<Connection> {
        let mut connection = self.take()?;
        let idle_since = connection.heard_at;
        if idle_since.elapsed() < IDLE_BEFORE_PING {
            return Some(connection);
        }
        if let Ok(Ok(())) = timeout(PING_LIMIT, connection.connection.ping()).await {
            return Some(connection);
        }
        self.health.retire(connection.generation);
        None
    }

    fn take(&self) -> Option<Connection> {
        let generation = self.health.generation.load(Ordering::Acquire);
        let silent_since = *self.health.silent_since();
        let now = Instant::now();
        let mut idle = self.idle();
        idle.retain(|one| {
            one.generation == generation
                && silent_since.is_none_or(|since| one.heard_at >= since)
                && now < one.heard_at + IDLE_LIMIT
                && now < one.connected_at + LIFETIME
        });
        idle.pop()
    }

    async fn connect(&self) -> Result<Connection, StoreError> {
        let generation = self.health.generation.load(Ordering::Acquire);
        let options = self.pool.connect_options();
        match timeout(CONNECT_TIMEOUT, connect(&options)).await {
            Ok(connected) => {
                let (connection, max_packet_bytes) = connected?;
                let now = Instant::now();
                Ok(Connection {
                    connection,
                    max_packet_bytes,
                    generation,
                    connected_at: now,
                    heard_at: now,
                })
            }
            Err(_) => Err(StoreError::new(NAME, StoreErrorKind::TimedOut).not_executed()),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health {
    /// Connections of this generation are not used any more.
    fn retire(&self, generation: u64) {
        // Once, however many of them find out.
        let next = generation.wrapping_add(1);
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        let _ = self
            .generation
            .compare_exchange(generation, next, success, failure);
    }

    fn silent_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.silent_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Call<'a> {
    /// A connection for the next try.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing was executed by this try.
    pub(super) async fn connection(&mut self) -> Result<OnLoan<'a>, StoreError> {
        let connection = self.lane.borrow().await;
        connection.map_err(|error| self.of_all_tries(error))
    }

    /// What came of the try; `None` when there is to be another one, because the connection had been idle
    /// and was of no use.
    pub(super) fn end<T>(
        &mut self,
        mut on_loan: OnLoan<'a>,
        result: Result<T, Failure>,
    ) -> Option<Result<T, StoreError>> {
        let failure = match result {
            Ok(done) => {
                on_loan.give_back();
                return Some(Ok(done));
            }
            Err(failure) => failure,
        };
        let may_repeat = failure.may_be_repeated() && on_loan.was_idle && !self.is_second;
        if failure.is_of_this_operation() {
            on_loan.give_back();
        } else {
            on_loan.close(&failure);
        }
        if may_repeat {
            tracing::debug!(
                error = &failure.error as &dyn std::error::Error,
                "an idle connection was of no use, trying a fresh one"
            );
            self.was_sent |= failure.error.may_have_happened();
            self.is_second = true;
            return None;
        }
        Some(Err(self.of_all_tries(failure.error)))
    }

    fn of_all_tries(&self, error: StoreError) -> StoreError {
        if self.was_sent {
            error.maybe_executed()
        } else {
            error
        }
    }
}

impl OnLoan<'_> {
    pub(super) fn max_packet_bytes(&self) -> usize {
        let connection = self.connection.as_ref();
        connection.map_or(usize::MAX, |connection| connection.max_packet_bytes)
    }

    /// Every request has had its reply.
    fn give_back(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            connection.heard_at = Instant::now();
            self.lane.idle().push(connection);
        }
    }

    fn close(&mut self, failure: &Failure) {
        if let Some(connection) = self.connection.take()
            && failure.is_of_server()
        {
            self.lane.health.retire(connection.generation);
        }
    }
}

/// A call was given up while it waited for the reply.
impl Drop for OnLoan<'_> {
    fn drop(&mut self) {
        if self.connection.is_some() {
            let mut silent_since = self.lane.health.silent_since();
            *silent_since = (*silent_since).max(Some(self.asked_at));
        }
    }
}

#[expect(clippy::expect_used, reason = "it is only taken by who consumes this")]
impl Deref for OnLoan<'_> {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.connection.as_ref().expect("a connection").connection
    }
}

#[expect(clippy::expect_used, reason = "it is only taken by who consumes this")]
impl DerefMut for OnLoan<'_> {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.connection.as_mut().expect("a connection").connection
    }
}

/// Connects, and makes the settings of the server and of the application not matter.
async fn connect(options: &MySqlConnectOptions) -> Result<(MySqlConnection, usize), StoreError> {
    let not_executed = |error| failure::of_server(error).error.not_executed();
    let mut connection = options.connect().await.map_err(not_executed)?;
    let rows = sqlx::raw_sql(SESSION).fetch_all(&mut connection).await;
    let rows = rows.map_err(not_executed)?;
    let max_packet_bytes = match rows.first() {
        Some(row) => usize::try_from(column::<u64>(row, 0)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    Ok((connection, max_packet_bytes))
}
