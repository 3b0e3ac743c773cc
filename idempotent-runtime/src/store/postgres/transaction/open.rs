//! An open transaction: what the handler writes, and the record.

use async_trait::async_trait;
use sqlx::{PgConnection, PgPool, Postgres, Row};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::pool::close_idle;
use super::record::RecordToWrite;
use crate::record::StoredResponse;
use crate::store::StoreError;
use crate::store::postgres::error::{
    is_in_failed_transaction, is_of_connection, is_without_savepoint, store_error,
};
use crate::store::postgres::statements::statement;
use crate::store::sql::{Loan, RETURN_LIMIT, transaction};
use crate::store::transaction::{Committed, Session};

/// An open transaction.
pub(super) struct Open {
    pub(super) pool: PgPool,
    pub(super) connection: Loan<Postgres>,
    pub(super) record: Option<RecordToWrite>,
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
        transaction::is_ended::<Postgres>(&mut self.connection, is_without_savepoint).await
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        let undone =
            transaction::undo::<Postgres>(&mut self.connection, is_without_savepoint).await;
        undone.map_err(|error| store_error(error).not_executed())
    }

    async fn commit(
        mut self: Box<Self>,
        response: &StoredResponse,
    ) -> Result<Committed, StoreError> {
        let (is_whole, is_as_it_was) = match &self.record {
            Some(record) => match record.write(&mut self.connection, response).await {
                Ok(written) => written,
                // The handler has gone on after a refused statement. The key is free before the answer goes out.
                Err(error) if is_in_failed_transaction(&error) => {
                    self.roll_back().await;
                    return Err(store_error(error).not_executed());
                }
                // COMMIT was not sent, and without it nothing happens.
                Err(error) => return Err(self.failed(error).not_executed()),
            },
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
