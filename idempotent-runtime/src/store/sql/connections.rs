//! A few connections for one kind of operation.
//!
//! Not a pool of sqlx: the application's handlers may have taken all connections of that one, and it asks each
//! connection that comes back whether it is there, and waits for as long as it takes.
//!
//! **A connection belongs to the future that waits for its reply.** A future that is dropped closes it; what the
//! reply says decides whether anything else is ever sent on it; and nothing is asked or awaited to put it back.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::{ConnectOptions, Connection as _};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use crate::store::{StoreError, StoreErrorKind};

/// The longest that an idle connection may take to answer about leases before a fresh one is asked.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(in crate::store) const MOST_PATIENCE: Duration = Duration::from_secs(1);

/// The same, where the shortest lease is this long.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(in crate::store) fn patience(lease: Duration) -> Duration {
    (lease / 4).clamp(Duration::from_millis(250), MOST_PATIENCE)
}

/// How long a connection may be unused before it is closed.
const IDLE_LIMIT: Duration = Duration::from_secs(10 * 60);

/// How long a connection is used at all, so that those to a new server come in time.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// The right to use so many connections, and those that are idle.
pub(in crate::store) struct Connections<C> {
    permits: Semaphore,
    /// The one that was used last is used next.
    idle: Mutex<Vec<Idle<C>>>,
}

/// A connection that no call uses.
pub(in crate::store) struct Idle<C> {
    pub(in crate::store) connection: C,
    connected_at: Instant,
    /// When the last reply came.
    pub(in crate::store) heard_at: Instant,
}

impl<C> Idle<C> {
    /// One that was made now.
    pub(in crate::store) fn fresh(connection: C) -> Self {
        let now = Instant::now();
        Self {
            connection,
            connected_at: now,
            heard_at: now,
        }
    }
}

impl<C> Connections<C> {
    pub(in crate::store) fn new(most: u32) -> Self {
        let permits = usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            permits: Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS)),
            idle: Mutex::default(),
        }
    }

    /// Waits until one more may be used.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::TimedOut`]; nothing was executed.
    pub(in crate::store) async fn permit(
        &self,
        limit: Duration,
        store: &'static str,
    ) -> Result<SemaphorePermit<'_>, StoreError> {
        match timeout(limit, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => {
                Err(StoreError::new(store, StoreErrorKind::TimedOut).not_executed())
            }
        }
    }

    /// One that is idle, not for too long, and trusted; the others are closed.
    pub(in crate::store) fn take(&self, is_trusted: impl Fn(&Idle<C>) -> bool) -> Option<Idle<C>> {
        let now = Instant::now();
        let is_young =
            |one: &Idle<C>| now < one.heard_at + IDLE_LIMIT && now < one.connected_at + LIFETIME;
        let mut idle = self.idle();
        idle.retain(|one| is_young(one) && is_trusted(one));
        idle.pop()
    }

    /// Each request has had its reply.
    pub(in crate::store) fn give_back(&self, mut used: Idle<C>) {
        used.heard_at = Instant::now();
        self.idle().push(used);
    }

    /// Closes those of which this is not so.
    pub(in crate::store) fn retain(&self, is_trusted: impl Fn(&Idle<C>) -> bool) {
        self.idle().retain(is_trusted);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle<C>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects once: whether the server lets us in, and if not, why. A pool tries again until its time is up, and then
/// says nothing but that.
pub(in crate::store) async fn try_out<O: ConnectOptions>(
    options: &O,
    limit: Duration,
    store_error: impl Fn(sqlx::Error) -> StoreError,
) -> Result<(), StoreError>
where
    O::Connection: Sized,
{
    let connected = timeout(limit, options.connect()).await;
    let connected = connected
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
        .map_err(store_error)?;
    // It has served its purpose: how it ends does not matter.
    drop(timeout(limit, connected.close()).await);
    Ok(())
}
