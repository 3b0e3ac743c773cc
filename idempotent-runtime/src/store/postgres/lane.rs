//! The connections for one kind of operation, and the statements over them.
//!
//! **One that was silent makes the others suspect.** When a call was given up without a reply, or its
//! connection turned out to be broken, all idle connections that were last heard of before it was sent
//! are closed: connections to a peer that is gone go together, not one timeout after the other.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::postgres::PgRow;
use sqlx::{Either, Executor as _, PgConnection};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout};

use super::connector::{CONNECT_TIMEOUT, Connector};
use super::error::{NAME, is_of_connection, store_error};
use super::statements::Query;
use crate::store::StoreError;
use crate::store::sql::{Connections, Idle};

pub(super) struct Lane {
    connector: Connector,
    most: u32,
    connections: Connections<PgConnection>,
}

/// The right to use one connection.
pub(super) struct Slot<'a> {
    lane: &'a Lane,
    _permit: SemaphorePermit<'a>,
}

impl Lane {
    pub(super) fn new(connector: Connector, most: u32) -> Self {
        Self {
            connector,
            most,
            connections: Connections::new(most),
        }
    }

    /// How many connections it has at most.
    pub(super) fn most(&self) -> u32 {
        self.most
    }

    /// Waits until one of the connections is free.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](crate::store::StoreErrorKind::TimedOut); nothing was executed.
    pub(super) async fn slot(&self) -> Result<Slot<'_>, StoreError> {
        Ok(Slot {
            lane: self,
            _permit: self.connections.permit(CONNECT_TIMEOUT, NAME).await?,
        })
    }

    /// The rows of one statement, which may be sent twice: see [`Slot::reply`].
    pub(super) async fn rows<'q>(
        &self,
        patience: Option<Duration>,
        query: impl Fn() -> Query<'q>,
    ) -> Result<Vec<PgRow>, StoreError> {
        self.slot().await?.rows(patience, query).await
    }
}

impl Slot<'_> {
    /// The rows of one statement: see [`Slot::reply`].
    pub(super) async fn rows<'q>(
        &self,
        patience: Option<Duration>,
        query: impl Fn() -> Query<'q>,
    ) -> Result<Vec<PgRow>, StoreError> {
        Ok(self.reply(patience, query).await?.rows)
    }

    /// The reply to one statement.
    ///
    /// A connection that was idle can have been closed by the server meanwhile, be read-only by now, or have
    /// prepared what no longer fits. When it says so, or breaks, the statement is sent once more on a
    /// fresh one; so it has to be one that may be repeated. With `patience`, it is also when an idle
    /// connection says nothing for that long. The reply tells whether what was sent first may be executed.
    ///
    /// # Errors
    ///
    /// [`StoreError`], of both times together.
    pub(super) async fn reply<'q>(
        &self,
        patience: Option<Duration>,
        query: impl Fn() -> Query<'q>,
    ) -> Result<Reply, StoreError> {
        self.send(patience, true, query).await
    }

    /// The rows of a statement that must not be repeated where it may have been executed.
    pub(super) async fn rows_once<'q>(
        &self,
        query: impl Fn() -> Query<'q>,
    ) -> Result<Vec<PgRow>, StoreError> {
        Ok(self.send(None, false, query).await?.rows)
    }

    async fn send<'q>(
        &self,
        patience: Option<Duration>,
        is_repeatable: bool,
        query: impl Fn() -> Query<'q>,
    ) -> Result<Reply, StoreError> {
        let mut has_lost_question = false;
        if let Some(idle) = self.lane.connections.take(|_| true) {
            let asking = self.ask(idle, query());
            let reply = match patience {
                Some(patience) => timeout(patience, asking).await.ok(),
                None => Some(asking.await),
            };
            match reply {
                Some(Ok(reply)) => return Ok(reply),
                Some(Err(error)) if !is_of_connection(&error) => return Err(store_error(error)),
                Some(Err(error)) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "an idle connection was unusable; trying another"
                    );
                    let error = store_error(error);
                    has_lost_question = error.may_have_happened();
                    if has_lost_question && !is_repeatable {
                        return Err(error);
                    }
                }
                None => has_lost_question = true,
            }
        }
        let fresh = async {
            let fresh = Idle::fresh(self.lane.connector.connect().await?);
            self.ask(fresh, query()).await.map_err(store_error)
        };
        match fresh.await {
            Ok(reply) => Ok(Reply {
                has_lost_question,
                ..reply
            }),
            Err(error) if has_lost_question => Err(error.maybe_executed()),
            Err(error) => Err(error),
        }
    }

    /// Owns the connection until there is a reply.
    async fn ask(&self, mut with: Idle<PgConnection>, query: Query<'_>) -> sqlx::Result<Reply> {
        let unanswered = UnansweredStatement {
            lane: self.lane,
            asked_at: Instant::now(),
            is_answered: false,
        };
        let reply = Reply::to(query, &mut with.connection).await;
        if !reply.as_ref().is_err_and(is_of_connection) {
            unanswered.answered();
            self.lane.connections.give_back(with);
        }
        reply
    }
}

/// What the server says to one statement.
#[derive(Default)]
pub(super) struct Reply {
    pub(super) rows: Vec<PgRow>,
    /// How many rows it has written.
    pub(super) written: u64,
    /// It was sent before, on a connection that broke: it may have been executed then, or may be later.
    pub(super) has_lost_question: bool,
}

impl Reply {
    async fn to(query: Query<'_>, connection: &mut PgConnection) -> sqlx::Result<Self> {
        let mut parts = connection.fetch_many(query);
        let mut reply = Self::default();
        while let Some(part) = parts.try_next().await? {
            match part {
                Either::Left(done) => reply.written += done.rows_affected(),
                Either::Right(row) => reply.rows.push(row),
            }
        }
        Ok(reply)
    }
}

/// A statement that was sent. Unless it is answered, what else is idle is not trusted any more.
struct UnansweredStatement<'a> {
    lane: &'a Lane,
    asked_at: Instant,
    is_answered: bool,
}

impl UnansweredStatement<'_> {
    fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for UnansweredStatement<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            let asked_at = self.asked_at;
            self.lane.connections.retain(|one| one.heard_at > asked_at);
        }
    }
}
