//! The connections for one kind of operation, and the calls over them.
//!
//! **One that was silent or broken makes the others suspect.** Idle connections that were last heard of
//! before a call that got no reply are closed, and so are all that are older than the news that the
//! server is read-only, demoted or gone: connections to a peer that is gone go together, not one timeout
//! after the other.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Connection as _, MySqlConnection, MySqlPool};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout};

use super::error::{Fault, NAME, of_server};
use super::row::column;
use super::statements::SESSION;
use crate::store::sql::{Connections, Idle};
use crate::store::{StoreError, StoreErrorKind};

/// How long a connection may take to be made.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a call waits for one of the connections to be free.
const QUEUE_LIMIT: Duration = Duration::from_secs(5);

/// An idle connection is asked whether it is still there before it is used after this long.
const IDLE_BEFORE_PING: Duration = Duration::from_secs(1);

/// How long it may take to say so.
const PING_LIMIT: Duration = Duration::from_millis(500);

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
    connections: Connections<Connection>,
}

/// A connection with the settings of `session.sql`.
struct Connection {
    connection: MySqlConnection,
    /// The most bytes that the server takes in one packet of this connection.
    max_packet_bytes: usize,
    generation: u64,
}

/// One call: at most two tries, the second on a fresh connection.
pub(super) struct LaneCall<'a> {
    lane: &'a Lane,
    /// It was sent by a connection that broke.
    was_sent: bool,
    is_second: bool,
}

/// A connection, and the right to use it. Dropped, it is closed.
pub(super) struct OnLoan<'a> {
    lane: &'a Lane,
    /// Missing once it was given back.
    connection: Option<Idle<Connection>>,
    was_idle: bool,
    asked_at: Instant,
    _permit: SemaphorePermit<'a>,
}

impl Lane {
    pub(super) fn new(pool: MySqlPool, health: Arc<Health>, connections: u32) -> Self {
        Self {
            pool,
            health,
            connections: Connections::new(connections),
        }
    }

    /// For an operation that may be repeated: see [`on_lane!`].
    pub(super) fn call(&self) -> LaneCall<'_> {
        LaneCall {
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
        self.connections.retain(|_| false);
        self.borrow().await
    }

    async fn borrow(&self) -> Result<OnLoan<'_>, StoreError> {
        let permit = self.connections.permit(QUEUE_LIMIT, NAME).await?;
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

    async fn idle_connection(&self) -> Option<Idle<Connection>> {
        let mut connection = self.take()?;
        if connection.heard_at.elapsed() < IDLE_BEFORE_PING {
            return Some(connection);
        }
        let ping = connection.connection.connection.ping();
        if let Ok(Ok(())) = timeout(PING_LIMIT, ping).await {
            return Some(connection);
        }
        self.health.retire(connection.connection.generation);
        None
    }

    fn take(&self) -> Option<Idle<Connection>> {
        let generation = self.health.generation.load(Ordering::Acquire);
        let silent_since = *self.health.silent_since();
        self.connections.take(|one| {
            one.connection.generation == generation
                && silent_since.is_none_or(|since| one.heard_at >= since)
        })
    }

    async fn connect(&self) -> Result<Idle<Connection>, StoreError> {
        let generation = self.health.generation.load(Ordering::Acquire);
        let options = self.pool.connect_options();
        match timeout(CONNECT_TIMEOUT, connect(&options)).await {
            Ok(connected) => {
                let (connection, max_packet_bytes) = connected?;
                Ok(Idle::fresh(Connection {
                    connection,
                    max_packet_bytes,
                    generation,
                }))
            }
            Err(_) => Err(StoreError::new(NAME, StoreErrorKind::TimedOut).not_executed()),
        }
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

impl<'a> LaneCall<'a> {
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
    /// and was unusable.
    pub(super) fn end<T>(
        &mut self,
        mut on_loan: OnLoan<'a>,
        result: Result<T, Fault>,
    ) -> Option<Result<T, StoreError>> {
        let fault = match result {
            Ok(done) => {
                on_loan.give_back();
                return Some(Ok(done));
            }
            Err(fault) => fault,
        };
        let may_repeat = fault.may_be_repeated() && on_loan.was_idle && !self.is_second;
        if fault.is_of_this_operation() {
            on_loan.give_back();
        } else {
            on_loan.close(&fault);
        }
        if may_repeat {
            tracing::debug!(
                error = &fault.error as &dyn std::error::Error,
                "an idle connection was unusable; trying another"
            );
            self.was_sent |= fault.error.may_have_happened();
            self.is_second = true;
            return None;
        }
        Some(Err(self.of_all_tries(fault.error)))
    }

    /// How long this try may wait for its reply: on a connection that was idle, and whose peer may be gone without a word, no
    /// longer than this.
    pub(super) fn limit(
        &self,
        on_loan: &OnLoan<'_>,
        patience: Option<Duration>,
    ) -> Option<Duration> {
        patience.filter(|_| on_loan.was_idle && !self.is_second)
    }

    /// The try got no reply in time, and its connection is closed: there is to be another one.
    pub(super) fn is_silent(&mut self, on_loan: OnLoan<'a>) {
        drop(on_loan);
        self.was_sent = true;
        self.is_second = true;
    }

    fn of_all_tries(&self, error: StoreError) -> StoreError {
        if self.was_sent {
            error.maybe_executed()
        } else {
            error
        }
    }
}

/// Runs an operation of the records on a connection of one of their lanes, and once more on a fresh one if that
/// connection had been idle and turned out to be of no use; with a patience, also if it says nothing for that long.
///
/// No function: that its closure's future can be sent, for any connection, is more than can be said of it.
macro_rules! on_lane {
    ($records:expr, $lane:ident, $operation:ident($($argument:expr),*)) => {
        on_lane!($records, $lane, None, $operation($($argument),*))
    };
    ($records:expr, $lane:ident, $patience:expr, $operation:ident($($argument:expr),*)) => {
        match $records.lanes() {
            Err(error) => Err(error),
            Ok(lanes) => {
                let mut call = lanes.$lane.call();
                loop {
                    let mut connection = match call.connection().await {
                        Ok(connection) => connection,
                        Err(error) => break Err(error),
                    };
                    let limit = call.limit(&connection, $patience);
                    let asking = $records.$operation(&mut connection, $($argument),*);
                    let result = match limit {
                        None => Some(asking.await),
                        Some(limit) => tokio::time::timeout(limit, asking).await.ok(),
                    };
                    let Some(result) = result else {
                        call.is_silent(connection);
                        continue;
                    };
                    if let Some(result) = call.end(connection, result) {
                        break result;
                    }
                }
            }
        }
    };
}

pub(super) use on_lane;

impl OnLoan<'_> {
    pub(super) fn max_packet_bytes(&self) -> usize {
        let connection = self.connection.as_ref();
        connection.map_or(usize::MAX, |used| used.connection.max_packet_bytes)
    }

    /// Every request has had its reply.
    fn give_back(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.lane.connections.give_back(connection);
        }
    }

    fn close(&mut self, fault: &Fault) {
        if let Some(connection) = self.connection.take()
            && fault.is_of_server()
        {
            self.lane.health.retire(connection.connection.generation);
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
        &self
            .connection
            .as_ref()
            .expect("a connection")
            .connection
            .connection
    }
}

#[expect(clippy::expect_used, reason = "it is only taken by who consumes this")]
impl DerefMut for OnLoan<'_> {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self
            .connection
            .as_mut()
            .expect("a connection")
            .connection
            .connection
    }
}

/// Connects, and makes the settings of the server and of the application not matter.
async fn connect(options: &MySqlConnectOptions) -> Result<(MySqlConnection, usize), StoreError> {
    let not_executed = |error| of_server(error).error.not_executed();
    let mut connection = options.connect().await.map_err(not_executed)?;
    let rows = sqlx::raw_sql(SESSION).fetch_all(&mut connection).await;
    let rows = rows.map_err(not_executed)?;
    let max_packet_bytes = match rows.first() {
        Some(row) => usize::try_from(column::<u64>(row, 0)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    Ok((connection, max_packet_bytes))
}
