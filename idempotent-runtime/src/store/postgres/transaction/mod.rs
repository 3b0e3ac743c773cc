//! Transactions of PostgreSQL.
//!
//! `BEGIN`, the key's lock and the savepoint in one message; the look for a record; the handler's
//! statements; the question whether its session is as it was; the record; `COMMIT`. So an
//! idempotent transaction has three round trips more than the same one without. The look is a statement of
//! its own so that it is prepared: planning it each time would cost the server more than half of what it
//! does for an insert. So is the question about the session: the record is written by the role that the session
//! had at the beginning, and names cannot even be looked up by every role. What the handler has changed is put
//! back first, behind what it has deferred to `COMMIT`: two round trips more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgConnection;

use self::begin::begin;
use self::pool::close_idle;
use super::error::{not_allowed, store_error};
use super::records::Records;
use super::statements::RIGHTS;
use crate::store::transaction::{Begin, Session, TransactionRequest};
use crate::store::{Claim, StoreError};

#[cfg(feature = "tokio-postgres")]
pub(super) use self::begin::{message, message_without_record, milliseconds};
#[cfg(feature = "tokio-postgres")]
pub(super) use self::ended::{Remaining, WithoutRecord};
#[cfg(feature = "tokio-postgres")]
pub(super) use self::fate::{Begun, Unanswered, fate_without_connection, while_at_work};
#[cfg(feature = "tokio-postgres")]
pub(super) use self::lock::lock;
#[cfg(feature = "tokio-postgres")]
pub(super) use self::not_begun::NotBegun;
#[cfg(feature = "tokio-postgres")]
pub(super) use self::pool::UnansweredBegin;

mod begin;
mod ended;
mod fate;
mod lock;
mod not_begun;
mod open;
mod pool;
mod record;
mod silence;

/// Begins transactions on the application's pool.
pub(super) struct PgTransactions {
    records: Arc<Records>,
    /// Whether the pool's role is known to have the rights that a record needs: the pool can give its connections another one
    /// than the store's own have.
    is_allowed: AtomicBool,
}

impl PgTransactions {
    pub(super) fn new(records: Arc<Records>) -> Self {
        Self {
            records,
            is_allowed: AtomicBool::new(false),
        }
    }

    /// A handler must not run for a record that cannot be written.
    async fn check(
        &self,
        relation: &Arc<str>,
        connection: &mut PgConnection,
    ) -> Result<(), StoreError> {
        if self.is_allowed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let asked = sqlx::query_scalar(RIGHTS).bind(&**relation);
        let asked = asked.fetch_one(connection).await;
        if !asked.map_err(|error| store_error(error).not_executed())? {
            return Err(not_allowed(relation));
        }
        self.is_allowed.store(true, Ordering::Relaxed);
        Ok(())
    }
}

#[async_trait]
impl Begin<PgConnection> for PgTransactions {
    async fn begin(
        &self,
        request: Option<&TransactionRequest>,
        idle_limit: Duration,
    ) -> Result<Claim<Box<dyn Session<PgConnection>>>, StoreError> {
        let sql = match request {
            Some(request) => Some((
                request,
                self.records.statements().await?.transaction.clone(),
            )),
            None => None,
        };
        let relation = sql.as_ref().map(|(_, sql)| Arc::clone(&sql.relation));
        let pool = self.records.connector().pool();
        let begun = match begin(&self.records, sql.clone(), idle_limit).await {
            Err(failed) if failed.is_of_session => {
                tracing::debug!(
                    error = &failed.error as &dyn std::error::Error,
                    "an idle connection was unusable; trying another"
                );
                close_idle(pool);
                begin(&self.records, sql, idle_limit).await
            }
            begun => begun,
        };
        let mut claim = begun.map_err(|failed| failed.error)?;
        if let (Claim::Acquired(session), Some(relation)) = (&mut claim, &relation) {
            self.check(relation, session.connection()).await?;
        }
        Ok(claim)
    }
}
