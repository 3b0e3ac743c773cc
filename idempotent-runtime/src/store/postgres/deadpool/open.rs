//! An open transaction: what the handler writes, and the record.

use async_trait::async_trait;
use deadpool_postgres::Pool;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::error::{is_in_failed_transaction, is_of_connection, is_without_savepoint, store_error};
use super::lent::DeadpoolTransaction;
use super::pool::close_idle;
use super::record::{RecordToWrite, Sent};
use crate::record::StoredResponse;
use crate::store::StoreError;
use crate::store::sql::RETURN_LIMIT;
use crate::store::transaction::{Committed, Session, UNDO};

/// An open transaction.
pub(super) struct Open {
    pool: Pool,
    lent: DeadpoolTransaction,
    record: Option<RecordToWrite>,
}

#[async_trait]
impl Session<DeadpoolTransaction> for Open {
    fn connection(&mut self) -> &mut DeadpoolTransaction {
        &mut self.lent
    }

    async fn is_failed(&mut self) -> bool {
        self.lent.batch_execute("SELECT 1").await.is_err()
    }

    async fn is_ended(&mut self) -> bool {
        let undone = self.lent.batch_execute(UNDO).await;
        undone.is_err_and(|error| is_without_savepoint(&error))
    }

    /// If there is no savepoint any more, the handler or the server has ended the transaction: what was committed cannot be
    /// taken back, so that its answer must be stored.
    async fn undo(&mut self) -> Result<(), StoreError> {
        let undone = match self.lent.batch_execute(UNDO).await {
            Err(error) if is_without_savepoint(&error) => self.lent.batch_execute("ROLLBACK").await,
            undone => undone,
        };
        undone.map_err(|error| store_error(error).not_executed())
    }

    async fn commit(self: Box<Self>, response: &StoredResponse) -> Result<Committed, StoreError> {
        let Some(record) = &self.record else {
            return self.commit_without_record().await;
        };
        match record.commit(&self.lent, response).await {
            Sent::Committed { is_as_it_was: true } => {
                self.lent.give_back();
                Ok(Committed::Stored)
            }
            Sent::Committed {
                is_as_it_was: false,
            } => {
                self.give_back_if_same();
                Ok(Committed::Stored)
            }
            Sent::Lost => {
                self.give_back_if_same();
                Ok(Committed::Lost)
            }
            // The handler has gone on after a refused statement, and COMMIT has rolled that back.
            Sent::Failed { error, .. } if is_in_failed_transaction(&error) => {
                self.give_back_if_same();
                Err(store_error(error).not_executed())
            }
            Sent::Failed {
                error,
                is_rolled_back,
            } => {
                let error = self.failed(error);
                Err(if is_rolled_back {
                    error.not_executed()
                } else {
                    error
                })
            }
        }
    }

    async fn roll_back(self: Box<Self>) {
        // A connection on which that fails is closed, and then the server does it.
        if self.lent.batch_execute("ROLLBACK").await.is_ok() {
            self.give_back_if_same();
        }
    }
}

impl Open {
    pub(super) fn new(
        pool: &Pool,
        lent: DeadpoolTransaction,
        record: Option<RecordToWrite>,
    ) -> Self {
        Self {
            pool: pool.clone(),
            lent,
            record,
        }
    }

    /// A transaction that takes no more statements is rolled back by COMMIT, without an error: so one is sent in front, and
    /// where that fails, the server does not come to COMMIT.
    async fn commit_without_record(self: Box<Self>) -> Result<Committed, StoreError> {
        match self.lent.batch_execute("SELECT 1; COMMIT").await {
            Ok(()) => {
                self.lent.give_back();
                Ok(Committed::Stored)
            }
            Err(error) if is_in_failed_transaction(&error) => {
                self.roll_back().await;
                Ok(Committed::Lost)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// What is wrong with this connection can be wrong with all that are idle.
    fn failed(&self, error: tokio_postgres::Error) -> StoreError {
        if is_of_connection(&error) {
            close_idle(&self.pool);
        }
        store_error(error)
    }

    /// Most changes end with the transaction. A connection that is left with others is closed.
    fn give_back_if_same(self) {
        let (lent, Some(record)) = (self.lent, self.record) else {
            return;
        };
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let asking = async {
                let is_same = lent.prepare_cached(&record.sql.is_same).await?;
                lent.query_one(&is_same, &[&record.session])
                    .await?
                    .try_get("is_same")
            };
            if let Ok(Ok(true)) = timeout(RETURN_LIMIT, asking).await {
                lent.give_back();
            } else {
                tracing::warn!(record = %record.request.owner.key,
                    "a handler has changed the settings of its session: the connection is closed");
            }
        });
    }
}
