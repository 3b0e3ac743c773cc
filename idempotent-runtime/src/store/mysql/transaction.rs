//! Transactions of MySQL and MariaDB.
//!
//! A look at the record; the key's lock; `START TRANSACTION`; the record, still running, by which the
//! key is taken; the savepoint; the handler's statements; the record completed; `COMMIT`. Nobody else
//! sees the running record. When the server rolls the transaction back, as it does with one of two
//! that lock each other out, the record is gone, which is how that is noticed.
//!
//! `autocommit` is off meanwhile: what a handler writes after it was rolled back, and has not noticed,
//! is otherwise committed at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection};

use super::row::Row;
use super::{MySqlStore, failure};
use crate::key::RecordKey;
use crate::record::StoredResponse;
use crate::store::sql::{Loan, transaction};
use crate::store::transaction::{
    Begin, Begun, Committed, IS_WHOLE, Session, Settled, TransactionRequest, UNDO,
};
use crate::store::{Claim, ClaimRequest, StoreError};

const BEGIN: &str = "SET autocommit = 0; START TRANSACTION";

struct Open {
    connection: Loan<MySql>,
    request: Option<TransactionRequest>,
    store: Arc<MySqlStore>,
}

/// Without a lease: should the handler commit by itself, as it does by every `CREATE TABLE`, what
/// others see is that it is unknown how that ends.
fn claim_of(request: &TransactionRequest) -> ClaimRequest {
    ClaimRequest {
        owner: request.owner,
        fingerprint: request.fingerprint,
        lease: Duration::ZERO,
        ttl: request.ttl,
        take_over: None,
    }
}

/// What the record says, when it is there and alive.
enum Seen {
    Settled(Settled),
    Expired,
    Nothing,
}

#[async_trait]
impl Begin<MySqlConnection> for MySqlStore {
    async fn begin(
        &self,
        request: Option<&TransactionRequest>,
    ) -> Result<Begun<MySqlConnection>, StoreError> {
        let mut connection = self.borrow().await?;
        let Some(request) = request else {
            self.start(&mut connection).await?;
            self.set_savepoint(&mut connection).await?;
            return Ok(self.open(connection, None));
        };
        // Before the lock: who only looks takes none.
        if let Seen::Settled(settled) = self.look(&mut connection, request).await? {
            connection.give_back();
            return Ok(Begun::Settled(settled));
        }
        if !self.lock(&mut connection, &request.owner.key).await? {
            connection.give_back();
            return Ok(Begun::Settled(Settled::InFlight(None)));
        }
        // Behind the lock: what was committed before it is there now.
        let seen = self.look(&mut connection, request).await?;
        if let Seen::Settled(settled) = seen {
            self.leave(connection, Some(&request.owner.key)).await;
            return Ok(Begun::Settled(settled));
        }
        self.start(&mut connection).await?;
        if !self.insert(&mut connection, request, &seen).await? {
            // Somebody's claim, who has asked for no lock.
            let key = request.owner.key;
            drop(transaction::roll_back::<MySql>(&mut connection).await);
            self.leave(connection, Some(&key)).await;
            return Ok(Begun::Settled(Settled::InFlight(None)));
        }
        Ok(self.open(connection, Some(*request)))
    }
}

impl MySqlStore {
    fn open(
        &self,
        connection: Loan<MySql>,
        request: Option<TransactionRequest>,
    ) -> Begun<MySqlConnection> {
        Begun::Open(Box::new(Open {
            connection,
            request,
            store: Arc::new(self.clone()),
        }))
    }

    async fn start(&self, connection: &mut MySqlConnection) -> Result<(), StoreError> {
        let begun = transaction::begin::<MySql>(connection, BEGIN).await;
        begun.map_err(|error| self.error(error))
    }

    async fn look(
        &self,
        connection: &mut MySqlConnection,
        request: &TransactionRequest,
    ) -> Result<Seen, StoreError> {
        let read = self.statements.read(&request.owner.key);
        let Some(row) = self.read(connection, read).await? else {
            return Ok(Seen::Nothing);
        };
        let Some(row) = Row::read(&row)? else {
            return Ok(Seen::Expired);
        };
        Ok(Seen::Settled(match row.answer(&claim_of(request)) {
            Some(Claim::Completed(response)) => Settled::Completed(response),
            Some(Claim::InFlight { lease_left }) => Settled::InFlight(Some(lease_left)),
            Some(Claim::Mismatch) => Settled::Mismatch,
            Some(Claim::Abandoned { .. } | Claim::Acquired { .. }) | None => Settled::Abandoned,
        }))
    }

    async fn lock(
        &self,
        connection: &mut MySqlConnection,
        key: &RecordKey,
    ) -> Result<bool, StoreError> {
        let is_ours: Result<(Option<i64>,), _> =
            self.statements.enter(key).fetch_one(connection).await;
        // NULL is an error of the server's, such as too many locks.
        let (is_ours,) = is_ours.map_err(|error| self.error(error))?;
        Ok(is_ours == Some(1))
    }

    /// Takes the key, and sets the savepoint; `false` when somebody else has the record.
    async fn insert(
        &self,
        connection: &mut MySqlConnection,
        request: &TransactionRequest,
        seen: &Seen,
    ) -> Result<bool, StoreError> {
        let claim = claim_of(request);
        let statement = match seen {
            Seen::Expired => self.statements.reclaim(&claim),
            Seen::Nothing | Seen::Settled(_) => self.statements.insert(&claim),
        };
        match statement.execute(&mut *connection).await {
            Ok(done) if done.rows_affected() == 0 => return Ok(false),
            Ok(_) => {}
            Err(error) if failure::is_duplicate(&error) || failure::is_lock_conflict(&error) => {
                return Ok(false);
            }
            Err(error) => return Err(self.error(error)),
        }
        self.set_savepoint(connection).await.map(|()| true)
    }

    async fn set_savepoint(&self, connection: &mut MySqlConnection) -> Result<(), StoreError> {
        let savepoint = sqlx::raw_sql("SAVEPOINT idempotent_handler").execute(connection);
        savepoint.await.map(drop).map_err(|error| self.error(error))
    }

    /// A connection on which this fails is closed, and its lock goes with it.
    async fn leave(&self, mut connection: Loan<MySql>, key: Option<&RecordKey>) {
        let key = key.map(RecordKey::to_hex).unwrap_or_default();
        let leave = AssertSqlSafe(self.statements.leave.replace("{key}", &key));
        let left = sqlx::raw_sql(leave).execute(&mut *connection).await;
        if left.is_ok() {
            connection.give_back();
        }
    }
}

#[async_trait]
impl Session<MySqlConnection> for Open {
    fn connection(&mut self) -> &mut MySqlConnection {
        &mut self.connection
    }

    async fn is_failed(&mut self) -> bool {
        false
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
        undone.map(drop).map_err(|error| self.store.error(error))
    }

    async fn commit(
        mut self: Box<Self>,
        response: &StoredResponse,
    ) -> Result<Committed, StoreError> {
        let is_whole = match self.request {
            Some(request) => self.record(&request, response).await?,
            None => self.is_whole().await,
        };
        if !is_whole {
            self.roll_back().await;
            return Ok(Committed::Lost);
        }
        let committed = transaction::commit::<MySql>(&mut self.connection).await;
        committed.map_err(|error| self.store.error(error))?;
        self.leave().await;
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
        let statements = &self.store.statements;
        let record = statements.record(request, response.status, &bytes);
        let recorded = record.execute(&mut *self.connection).await;
        let recorded = recorded.map_err(|error| self.store.error(error))?;
        Ok(recorded.rows_affected() > 0)
    }

    async fn is_whole(&mut self) -> bool {
        let released = sqlx::raw_sql(IS_WHOLE).execute(&mut *self.connection);
        released.await.is_ok()
    }

    async fn leave(self) {
        let Self {
            connection,
            request,
            store,
        } = self;
        let key = request.map(|request| request.owner.key);
        store.leave(connection, key.as_ref()).await;
    }
}
