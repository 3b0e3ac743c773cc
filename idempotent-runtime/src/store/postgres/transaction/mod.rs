//! Transactions of PostgreSQL.
//!
//! `BEGIN`, the key's lock and the savepoint in one message; the look for a record; the handler's
//! statements; the question whether its session is as it was; the record; `COMMIT`. So an
//! idempotent transaction has three round trips more than the same one without. The look is a statement of
//! its own so that it is prepared: planning it each time would cost the server more than half of what it
//! does for an insert. So is the question about the session: the record is written by the role that the session
//! had at the beginning, and names cannot even be looked up by every role. What the handler has changed is put
//! back first, with one round trip more.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgConnection;

use self::begin::begin;
use self::pool::close_idle;
use super::records::Records;
use crate::store::transaction::{Begin, Session, TransactionRequest};
use crate::store::{Claim, StoreError};

#[cfg(feature = "tokio-postgres")]
pub(super) use self::begin::{lock, message, message_without_record, milliseconds};
#[cfg(feature = "tokio-postgres")]
pub(super) use self::pool::SILENCE;

mod begin;
mod open;
mod pool;
mod record;

/// Begins transactions on the application's pool.
pub(super) struct PgTransactions(pub(super) Arc<Records>);

#[async_trait]
impl Begin<PgConnection> for PgTransactions {
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
