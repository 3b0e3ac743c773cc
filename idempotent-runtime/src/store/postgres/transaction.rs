//! Transactions of PostgreSQL.
//!
//! `BEGIN`, the key's lock and the savepoint in one message; the look for a record; the handler's
//! statements; what the handler has changed in its session put back; the record; `COMMIT`. So an
//! idempotent transaction has three round trips more than the same one without. The look is a statement of
//! its own so that it is prepared: planning it each time would cost the server more than half of what it
//! does for an insert. So is putting the session back: the record is written by the role that the session had
//! at the beginning, and names cannot even be looked up by every role.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{PgConnection, PgPool, Postgres, Row};
use tokio::runtime::Handle;
use tokio::time::timeout;

use self::begin::{begin, close_idle};
use self::record::ToRecord;
use super::error::{is_of_connection, is_without_savepoint, store_error};
use super::records::Records;
use super::statement;
use crate::record::StoredResponse;
use crate::store::sql::{Loan, RETURN_LIMIT, transaction};
use crate::store::transaction::{Begin, Committed, Session, TransactionRequest, UNDO};
use crate::store::{Claim, StoreError};

mod begin;
mod record;

/// Begins transactions on the application's pool.
pub(super) struct Transactions(pub(super) Arc<Records>);

struct Open {
    pool: PgPool,
    connection: Loan<Postgres>,
    record: Option<ToRecord>,
}

#[async_trait]
impl Begin<PgConnection> for Transactions {
    async fn begin(
        &self,
        request: Option<&TransactionRequest>,
        idle_limit: Duration,
    ) -> Result<Claim<Box<dyn Session<PgConnection>>>, StoreError> {
        let sql = match request {
            Some(request) => Some((request, self.0.statements().await?.transaction.clone())),
            None => None,
        };
        let pool = self.0.connector().pool();
        match begin(&self.0, sql.clone(), idle_limit).await {
            Err(failed) if failed.is_of_session => {
                tracing::debug!(
                    error = &failed.error as &dyn std::error::Error,
                    "a pooled connection was of no use, trying a fresh one"
                );
                close_idle(pool);
                let begun = begin(&self.0, sql, idle_limit).await;
                begun.map_err(|failed| failed.error)
            }
            begun => begun.map_err(|failed| failed.error),
        }
    }
}

#[async_trait]
impl Session<PgConnection> for Open {
    fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    async fn is_failed(&mut self) -> bool {
        let anything = sqlx::raw_sql("SELECT 1").execute(&mut *self.connection);
        anything.await.is_err()
    }

    async fn is_ended(&mut self) -> bool {
        let undone = sqlx::raw_sql(UNDO).execute(&mut *self.connection).await;
        undone.is_err_and(|error| is_without_savepoint(&error))
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        let undone = match sqlx::raw_sql(UNDO).execute(&mut *self.connection).await {
            // The handler has ended its transaction by itself. What it has committed cannot be taken
            // back, so that its answer must be stored.
            Err(error) if is_without_savepoint(&error) => {
                let rest = sqlx::raw_sql("ROLLBACK").execute(&mut *self.connection);
                rest.await
            }
            undone => undone,
        };
        let undone = undone.map(drop).map_err(store_error);
        undone.map_err(StoreError::not_executed)
    }

    async fn commit(
        mut self: Box<Self>,
        response: &StoredResponse,
    ) -> Result<Committed, StoreError> {
        let (is_whole, is_as_it_was) = match &self.record {
            Some(record) => {
                let written = record.write(&mut self.connection, response).await;
                // COMMIT was not sent, and without it nothing happens.
                written.map_err(|error| self.failed(error).not_executed())?
            }
            // A transaction that takes no more statements is rolled back by COMMIT, without an error.
            None => (!self.is_failed().await, true),
        };
        if !is_whole {
            self.roll_back().await;
            return Ok(Committed::Lost);
        }
        let committed = transaction::commit::<Postgres>(&mut self.connection).await;
        committed.map_err(|error| self.failed(error))?;
        if is_as_it_was {
            self.connection.give_back();
        } else {
            self.give_back_if_same();
        }
        Ok(Committed::Stored)
    }

    async fn roll_back(mut self: Box<Self>) {
        // A connection on which that fails is closed, and then the server does it.
        let rolled_back = transaction::roll_back::<Postgres>(&mut self.connection).await;
        if rolled_back.is_ok() {
            self.give_back_if_same();
        }
    }
}

impl Open {
    /// What is wrong with this connection can be wrong with all that are idle.
    fn failed(&self, error: sqlx::Error) -> StoreError {
        if is_of_connection(&error) {
            close_idle(&self.pool);
        }
        store_error(error)
    }

    /// Most changes end with the transaction. A connection that is left with others is closed.
    fn give_back_if_same(self) {
        let (mut connection, Some(record)) = (self.connection, self.record) else {
            return;
        };
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let asking = statement(&record.sql.is_same)
                .bind(&record.session)
                .fetch_one(&mut *connection);
            let is_same = match timeout(RETURN_LIMIT, asking).await {
                Ok(Ok(row)) => row.try_get("is_same").unwrap_or(false),
                Ok(Err(_)) | Err(_) => false,
            };
            if is_same {
                connection.give_back();
            } else {
                tracing::warn!(record = %record.request.owner.key,
                    "a handler has changed the settings of its session: the connection is closed");
            }
        });
    }
}
