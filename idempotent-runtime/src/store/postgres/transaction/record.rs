//! The record of a transaction, and the session that it is written in.

use sqlx::{PgConnection, Row};

use crate::key::RecordKey;
use crate::record::StoredResponse;
use crate::store::postgres::error::is_unique_violation;
use crate::store::postgres::grouped::text;
use crate::store::postgres::statements::{TransactionStatements, statement};
use crate::store::sql::micros;
use crate::store::transaction::TransactionRequest;

/// What will be written when the handler is done.
pub(super) struct RecordToWrite {
    pub(super) request: TransactionRequest,
    pub(super) sql: TransactionStatements,
    /// For each key, whether there was an expired record.
    pub(super) keys: Vec<(RecordKey, bool)>,
    /// When the transaction began, by the server: what tells it from one that the handler has begun
    /// after ending this one.
    pub(super) begun_us: i64,
    /// What the session was set to then.
    pub(super) session: Vec<String>,
}

impl RecordToWrite {
    /// Puts back what the handler has changed in its session, and says whether that was nothing.
    async fn restore(&self, connection: &mut PgConnection) -> sqlx::Result<bool> {
        let row = statement(&self.sql.is_same)
            .bind(&self.session)
            .fetch_one(&mut *connection)
            .await?;
        let is_same: bool = row.try_get("is_same")?;
        let is_ours = row.try_get::<i64, _>("begun_us")? == self.begun_us;
        if !is_ours {
            tracing::error!(record = %self.request.owner.key,
                "a handler has ended its transaction by itself: its writes and its record were not committed together");
        }
        if !is_same {
            let restoring = statement(&self.sql.restore)
                .bind(&self.session)
                .bind(is_ours);
            restoring.execute(connection).await?;
        }
        Ok(is_ours && is_same)
    }

    /// Says whether the record is written, which it is not when another request's is there; and whether the
    /// session is as it was.
    pub(super) async fn write(
        &self,
        connection: &mut PgConnection,
        response: &StoredResponse,
    ) -> sqlx::Result<(bool, bool)> {
        let is_as_it_was = self.restore(connection).await?;
        let TransactionRequest {
            owner,
            operation,
            label,
            fingerprint,
            ttl,
            ..
        } = &self.request;
        let encoded = response.encode();
        for (key, was_expired) in &self.keys {
            let sql = match was_expired {
                true => &self.sql.record_again,
                false => &self.sql.record,
            };
            let written = statement(sql)
                .bind(&key.as_bytes()[..])
                .bind(&fingerprint.as_bytes()[..])
                .bind(&owner.token.as_bytes()[..])
                .bind(text(operation))
                .bind(i16::try_from(response.status).ok())
                .bind(&encoded[..])
                .bind(micros(*ttl))
                .bind(label.as_deref().map(text))
                .execute(&mut *connection)
                .await;
            match written {
                Ok(written) if written.rows_affected() == 1 => {}
                Ok(_) => return Ok((false, is_as_it_was)),
                Err(error) if is_unique_violation(&error) => return Ok((false, is_as_it_was)),
                Err(error) => return Err(error),
            }
        }
        Ok((true, is_as_it_was))
    }
}
