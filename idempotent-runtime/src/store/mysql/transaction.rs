//! Transactions of MySQL and MariaDB.
//!
//! A look at the record; the key's lock; a look behind it; `START TRANSACTION`; the record, still running,
//! by which the key is taken; the savepoint; the handler's statements; the record completed; `COMMIT`.
//! No other session sees the running record. When the server rolls the transaction back, as it does with one of
//! two that lock each other out, the record is gone, which is how that is noticed.
//!
//! `autocommit` is off meanwhile: what a handler writes after it was rolled back, and has not noticed,
//! is otherwise committed at once.
//!
//! The connection is the application's. A handler may leave its session changed: then it is closed and
//! not given back. It is compared in the round trips that there are anyway, which costs less than a new
//! connection for each transaction; sqlx has no `COM_RESET_CONNECTION`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection};
use tokio::time::timeout;

use self::connection::Borrowed;
use self::session::SessionState;
use super::{MySqlStore, failure};
use crate::key::RecordKey;
use crate::record::{Owner, StoredResponse};
use crate::store::StoreError;
use crate::store::sql::{RETURN_LIMIT, transaction};
use crate::store::transaction::{Committed, IS_WHOLE, Session, TransactionRequest, UNDO};

mod begin;
mod connection;
mod session;

struct Open {
    connection: Borrowed,
    request: Option<TransactionRequest>,
    before: SessionState,
    store: Arc<MySqlStore>,
}

fn owner_of(request: &TransactionRequest, key: RecordKey) -> Owner {
    let token = request.owner.token;
    Owner { key, token }
}

fn keys_of(request: &TransactionRequest) -> impl Iterator<Item = RecordKey> {
    let aliases = request.aliases.iter().copied();
    std::iter::once(request.owner.key).chain(aliases)
}

#[async_trait]
impl Session<MySqlConnection> for Open {
    fn connection(&mut self) -> &mut MySqlConnection {
        &mut self.connection
    }

    async fn is_failed(&mut self) -> bool {
        false
    }

    async fn is_ended(&mut self) -> bool {
        let undone = sqlx::raw_sql(UNDO).execute(&mut *self.connection).await;
        undone.is_err_and(|error| failure::is_without_savepoint(&error))
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        let undone = match sqlx::raw_sql(UNDO).execute(&mut *self.connection).await {
            // The transaction has ended. If the server has rolled it back, the record is gone. If the
            // handler has committed it, as by `CREATE TABLE`, the record is there, and must be
            // completed.
            Err(error) if failure::is_without_savepoint(&error) => {
                let rest = sqlx::raw_sql("ROLLBACK").execute(&mut *self.connection);
                rest.await
            }
            undone => undone,
        };
        let failed = |error| self.store.failure(error).error.not_executed();
        undone.map(drop).map_err(failed)
    }

    async fn commit(
        mut self: Box<Self>,
        response: &StoredResponse,
    ) -> Result<Committed, StoreError> {
        let is_whole = match self.request.clone() {
            // What is not committed has not happened.
            Some(request) => self
                .record(&request, response)
                .await
                .map_err(StoreError::not_executed)?,
            None => self.is_whole().await,
        };
        if !is_whole {
            self.roll_back().await;
            return Ok(Committed::Lost);
        }
        let committed = transaction::commit::<MySql>(&mut self.connection).await;
        committed.map_err(|error| self.store.failure(error).error)?;
        // No caller waits for what is left to do.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(timeout(RETURN_LIMIT, self.leave()));
        }
        Ok(Committed::Stored)
    }

    async fn roll_back(mut self: Box<Self>) {
        let rolled_back = transaction::roll_back::<MySql>(&mut self.connection).await;
        if rolled_back.is_ok() {
            self.leave().await;
        }
    }
}

impl Open {
    /// `false` when the record is gone, and the transaction with it.
    async fn record(
        &mut self,
        request: &TransactionRequest,
        response: &StoredResponse,
    ) -> Result<bool, StoreError> {
        let bytes = response.encode();
        failure::check_packet(bytes.len(), self.before.max_packet_bytes)?;
        for key in keys_of(request) {
            let owner = owner_of(request, key);
            if !self
                .record_one(&owner, request.ttl, response.status, &bytes)
                .await?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A handler that has given up its privileges, or has locked other tables, gets its record all the
    /// same.
    async fn record_one(
        &mut self,
        owner: &Owner,
        ttl: Duration,
        status: u16,
        response: &[u8],
    ) -> Result<bool, StoreError> {
        let mut is_unlocked = false;
        let mut is_restored = false;
        loop {
            let record = self.store.statements.record(owner, status, response, ttl);
            let again = match record.execute(&mut *self.connection).await {
                Ok(recorded) => return Ok(recorded.rows_affected() > 0),
                Err(error) if !is_unlocked && failure::is_not_locked(&error) => {
                    is_unlocked = true;
                    "UNLOCK TABLES".to_owned()
                }
                Err(error) if !is_restored && failure::is_denied(&error) => {
                    is_restored = true;
                    self.before.set_role()
                }
                Err(error) => return Err(self.store.failure(error).error),
            };
            let again = sqlx::raw_sql(AssertSqlSafe(again)).execute(&mut *self.connection);
            let failed = |error| self.store.failure(error).error;
            again.await.map_err(failed)?;
        }
    }

    async fn is_whole(&mut self) -> bool {
        let released = sqlx::raw_sql(IS_WHOLE).execute(&mut *self.connection);
        released.await.is_ok()
    }

    async fn leave(self: Box<Self>) {
        let Self {
            connection,
            before,
            store,
            ..
        } = *self;
        store.leave(connection, &before).await;
    }
}
