//! Points in the life of a transaction at which the process is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use idempotent_runtime::StoredResponse;
use idempotent_runtime::store::postgres::DeadpoolTransaction;
use idempotent_runtime::store::transaction::{Begin, Committed, Fate, Session, TransactionRequest};
use idempotent_runtime::store::{Claim, StoreError, TransactionConnection, Transactor};
use sqlx::{MySqlConnection, PgConnection, SqliteConnection};

use super::Point;

struct Crashing<C> {
    inner: Arc<dyn Begin<C>>,
    at: Option<Point>,
    /// The first is the one that the application tries when it starts.
    is_started: AtomicBool,
}

struct CrashingSession<C> {
    inner: Box<dyn Session<C>>,
    at: Option<Point>,
}

/// A connection that can be told to be the death of its process.
trait Deadly: TransactionConnection {
    /// When it commits. `false` where nothing in the process knows when that is.
    fn die_at_commit(&mut self) -> impl Future<Output = bool> + Send {
        async { false }
    }
}

impl Deadly for PgConnection {}
impl Deadly for MySqlConnection {}
impl Deadly for DeadpoolTransaction {}

impl Deadly for SqliteConnection {
    async fn die_at_commit(&mut self) -> bool {
        let mut handle = self.lock_handle().await.expect("a connection");
        handle.set_commit_hook(|| {
            Point::AtCommit.reached(Some(Point::AtCommit));
            true
        });
        true
    }
}

/// What begins transactions, and dies at a point.
pub fn crashing(inner: &Transactor, at: Option<Point>) -> Option<Transactor> {
    wrapped::<PgConnection>(inner, at)
        .or_else(|| wrapped::<DeadpoolTransaction>(inner, at))
        .or_else(|| wrapped::<SqliteConnection>(inner, at))
        .or_else(|| wrapped::<MySqlConnection>(inner, at))
}

fn wrapped<C: Deadly>(inner: &Transactor, at: Option<Point>) -> Option<Transactor>
where
    Transactor: From<Arc<dyn Begin<C>>>,
{
    let begin: Arc<dyn Begin<C>> = Arc::new(Crashing {
        inner: C::of(inner.clone())?,
        at,
        is_started: AtomicBool::new(false),
    });
    Some(begin.into())
}

#[async_trait]
impl<C: Deadly> Begin<C> for Crashing<C> {
    async fn begin(
        &self,
        request: Option<&TransactionRequest>,
        idle_limit: Duration,
    ) -> Result<Claim<Box<dyn Session<C>>>, StoreError> {
        let mut inner = match self.inner.begin(request, idle_limit).await? {
            Claim::Acquired(session) => session,
            other => return Ok(other),
        };
        if !self.is_started.swap(true, Ordering::Relaxed) {
            return Ok(Claim::Acquired(inner));
        }
        Point::AfterBegin.reached(self.at);
        if self.at == Some(Point::AtCommit) {
            assert!(inner.connection().die_at_commit().await);
        }
        let at = self.at;
        Ok(Claim::Acquired(Box::new(CrashingSession { inner, at })))
    }
}

#[async_trait]
impl<C: Deadly> Session<C> for CrashingSession<C> {
    fn connection(&mut self) -> &mut C {
        self.inner.connection()
    }

    async fn is_failed(&mut self) -> bool {
        self.inner.is_failed().await
    }

    async fn fate(&mut self) -> Fate {
        self.inner.fate().await
    }

    async fn undo(&mut self, limit: Duration) -> Result<(), StoreError> {
        self.inner.undo(limit).await
    }

    async fn commit(
        self: Box<Self>,
        response: &StoredResponse,
        limit: Duration,
    ) -> Result<Committed, StoreError> {
        let at = self.at;
        Point::BeforeRecord.reached(at);
        let committed = self.inner.commit(response, limit).await?;
        Point::AfterCommit.reached(at);
        Ok(committed)
    }

    async fn roll_back(self: Box<Self>) {
        self.inner.roll_back().await;
    }
}
