//! Transactions of handlers that write by tokio-postgres, on the application's pool of deadpool-postgres.
//!
//! The same statements as in [`transaction`](super::transaction), and none of them waits for the reply to the one before
//! where the server puts them in order: `BEGIN`, the locks, the savepoint and the look for a record are on their way
//! together, and so are what puts the session back, the record and `COMMIT`. So an idempotent transaction has
//! no round trip more than the same one without.
//!
//! What is sent together must be right whatever becomes of its parts. The look is a statement of its own, so that its
//! snapshot is taken when the locks are. `COMMIT` behind a statement that has failed is a rollback.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Pool;
use sqlx::Row as _;

use self::begin::begin;
use self::open::Open;
use self::pool::close_idle;
use super::error::{NAME, not_allowed, store_error};
use super::records::Records;
use super::row;
use super::statements::TransactionStatements;
use super::transaction::lock;
use crate::key::RecordKey;
use crate::store::transaction::{Begin, Session, TransactionRequest};
use crate::store::{Claim, StoreError, StoreErrorKind};

pub use self::lent::DeadpoolTransaction;

mod begin;
mod error;
mod lent;
mod open;
mod pool;
mod record;
mod session;

/// Begins transactions on the application's pool.
pub(super) struct DeadpoolTransactions {
    records: Arc<Records>,
    pool: Pool,
    /// Whether the pool is known to lead to the store's database, with the rights that a record needs.
    is_known: AtomicBool,
}

impl DeadpoolTransactions {
    pub(super) fn new(records: Arc<Records>, pool: Pool) -> Self {
        Self {
            records,
            pool,
            is_known: AtomicBool::new(false),
        }
    }

    /// Whether the store's own connections meet the lock that a transaction has just taken. Locks are a database's own, so
    /// they meet it in the same database only, whatever the two are connected through. A transaction that has not
    /// met its lock must not run: its record would be where nothing else looks for it. Nor must one whose role may not write
    /// records.
    async fn meet(
        &self,
        sql: &TransactionStatements,
        request: &TransactionRequest,
        open: &Open,
    ) -> Result<(), StoreError> {
        if self.is_known.load(Ordering::Relaxed) {
            return Ok(());
        }
        if is_free(&self.records, sql, &request.owner.key).await? {
            let cause = "the pool of `PostgresStore::with_deadpool` leads to another database than the store";
            return Err(StoreError::new(NAME, StoreErrorKind::Refused).with_source(cause));
        }
        if !open.is_allowed(&sql.relation).await? {
            return Err(not_allowed(&sql.relation));
        }
        self.is_known.store(true, Ordering::Relaxed);
        Ok(())
    }
}

#[async_trait]
impl Begin<DeadpoolTransaction> for DeadpoolTransactions {
    async fn begin(
        &self,
        request: Option<&TransactionRequest>,
        idle_limit: Duration,
    ) -> Result<Claim<Box<dyn Session<DeadpoolTransaction>>>, StoreError> {
        let sql = match request {
            Some(request) => Some((
                request,
                self.records.statements().await?.transaction.clone(),
            )),
            None => None,
        };
        let begun = match begin(&self.records, &self.pool, sql.clone(), idle_limit).await {
            Err(failed) if failed.is_of_session => {
                tracing::debug!(
                    error = &failed.error as &dyn std::error::Error,
                    "an idle connection was unusable; trying another"
                );
                close_idle(&self.pool);
                begin(&self.records, &self.pool, sql.clone(), idle_limit).await
            }
            begun => begun,
        };
        let claim = begun.map_err(|failed| failed.error)?;
        if let (Claim::Acquired(open), Some((request, sql))) = (&claim, &sql) {
            self.meet(sql, request, open).await?;
        }
        Ok(claim.map(|open| -> Box<dyn Session<_>> { Box::new(open) }))
    }
}

/// Whether no session holds a transaction's lock: asked by a connection of the store's.
async fn is_free(
    records: &Records,
    sql: &TransactionStatements,
    key: &RecordKey,
) -> Result<bool, StoreError> {
    let lock = lock(&sql.name, key);
    let ask = || sqlx::query("SELECT pg_try_advisory_xact_lock($1) AS is_free").bind(lock);
    let row = row::one(records.lanes()?.work.rows(None, ask).await?)?;
    row.try_get("is_free").map_err(store_error)
}
