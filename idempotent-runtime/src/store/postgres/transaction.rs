//! Transactions of PostgreSQL.
//!
//! `BEGIN`, the key's lock and the savepoint in one message; the look for a record; the handler's
//! statements; the record; `COMMIT`. So an idempotent transaction has two round trips more than the
//! same one without. The look is a statement of its own so that it is prepared: planning it each time
//! would cost the server more than half of what it does for an insert.

use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Row};

use super::error::{is_unique_violation, is_without_savepoint, store_error};
use super::{micros, rows, statement};
use crate::key::RecordKey;
use crate::record::StoredResponse;
use crate::store::StoreError;
use crate::store::sql::{Loan, TableName, transaction};
use crate::store::transaction::{
    Begin, Begun, Committed, Session, Settled, TransactionRequest, UNDO,
};

/// Begins transactions on the store's pool.
pub(super) struct Transactions {
    pub(super) pool: PgPool,
    pub(super) table: TableName,
    pub(super) begin: Arc<str>,
    pub(super) enter: Arc<str>,
    pub(super) record: Arc<str>,
    pub(super) record_again: Arc<str>,
}

struct Open {
    connection: Loan<Postgres>,
    record: Option<ToRecord>,
}

/// What will be written when the handler is done.
struct ToRecord {
    request: TransactionRequest,
    statement: Arc<str>,
    /// When the transaction began, by the server: what tells it from one that the handler has begun
    /// after ending this one.
    begun_us: i64,
}

impl Transactions {
    /// One lock for each key of each table. Advisory locks are numbers of 64 bits, so that two keys
    /// could share one; the later of the two would be told that it is in flight.
    fn lock(&self, key: &RecordKey) -> i64 {
        let table = Sha256::digest(self.table.to_string());
        let bytes = key.as_bytes().iter().zip(table).take(8);
        bytes.fold(0, |lock, (key, table)| lock << 8 | i64::from(*key ^ table))
    }
}

#[async_trait]
impl Begin<PgConnection> for Transactions {
    async fn begin(
        &self,
        request: Option<&TransactionRequest>,
    ) -> Result<Begun<PgConnection>, StoreError> {
        let mut connection = Loan::new(self.pool.acquire().await.map_err(store_error)?);
        let Some(request) = request else {
            transaction::begin::<Postgres>(&mut connection, "BEGIN")
                .await
                .map_err(store_error)?;
            let record = None;
            return Ok(Begun::Open(Box::new(Open { connection, record })));
        };
        let lock = self.lock(&request.owner.key).to_string();
        let begin = AssertSqlSafe(self.begin.replace("{lock}", &lock));
        transaction::begin::<Postgres>(&mut connection, begin)
            .await
            .map_err(store_error)?;
        let entered = statement(&self.enter)
            .bind(&request.owner.key.as_bytes()[..])
            .fetch_one(&mut *connection)
            .await
            .map_err(store_error)?;
        if let Some(settled) = settled(&entered, request)? {
            // Nobody needs to wait for it: it is sent when the connection is back in the pool.
            transaction::start_to_roll_back::<Postgres>(&mut connection);
            connection.give_back();
            return Ok(Begun::Settled(settled));
        }
        // One that counts has been dealt with.
        let expired: Option<bool> = entered.try_get("is_expired").map_err(store_error)?;
        let statement = match expired {
            Some(_) => &self.record_again,
            None => &self.record,
        };
        let record = ToRecord {
            request: *request,
            statement: Arc::clone(statement),
            begun_us: entered.try_get("begun_us").map_err(store_error)?,
        };
        Ok(Begun::Open(Box::new(Open {
            connection,
            record: Some(record),
        })))
    }
}

/// A record counts whoever has the lock: somebody who only looks at the record has it for a moment.
fn settled(entered: &PgRow, request: &TransactionRequest) -> Result<Option<Settled>, StoreError> {
    if let Some(settled) = rows::settled(entered, &request.fingerprint)? {
        return Ok(Some(settled));
    }
    let is_ours: bool = entered.try_get("is_ours").map_err(store_error)?;
    Ok((!is_ours).then_some(Settled::InFlight(None)))
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
        undone.map(drop).map_err(store_error)
    }

    async fn commit(
        mut self: Box<Self>,
        response: &StoredResponse,
    ) -> Result<Committed, StoreError> {
        let is_whole = match &self.record {
            Some(record) => record.write(&mut self.connection, response).await?,
            // A transaction that takes no more statements is rolled back by COMMIT, without an error.
            None => !self.is_failed().await,
        };
        if !is_whole {
            self.roll_back().await;
            return Ok(Committed::Lost);
        }
        transaction::commit::<Postgres>(&mut self.connection)
            .await
            .map_err(store_error)?;
        self.connection.give_back();
        Ok(Committed::Stored)
    }

    async fn roll_back(mut self: Box<Self>) {
        // A connection on which that fails is closed, and then the server does it.
        let rolled_back = transaction::roll_back::<Postgres>(&mut self.connection).await;
        if rolled_back.is_ok() {
            self.connection.give_back();
        }
    }
}

impl ToRecord {
    /// `false` when somebody else's record is there.
    async fn write(
        &self,
        connection: &mut PgConnection,
        response: &StoredResponse,
    ) -> Result<bool, StoreError> {
        let TransactionRequest {
            owner,
            fingerprint,
            ttl,
        } = &self.request;
        let written = statement(&self.statement)
            .bind(&owner.key.as_bytes()[..])
            .bind(&fingerprint.as_bytes()[..])
            .bind(&owner.token.as_bytes()[..])
            .bind(i16::try_from(response.status).ok())
            .bind(response.encode())
            .bind(micros(*ttl))
            .fetch_optional(connection)
            .await;
        let row = match written {
            Err(error) if is_unique_violation(&error) => None,
            written => written.map_err(store_error)?,
        };
        let Some(row) = row else { return Ok(false) };
        let begun_us: i64 = row.try_get("begun_us").map_err(store_error)?;
        if begun_us != self.begun_us {
            tracing::error!(record = %owner.key,
                "a handler has ended its transaction by itself: its writes and its record were not committed together");
        }
        Ok(true)
    }
}
