//! The record of a transaction, and the session that it is written in.

use sqlx::{PgConnection, Row};

use std::time::Duration;

use super::fate::{Begun, while_at_work};
use super::silence::{in_time, silence};
use crate::key::RecordKey;
use crate::record::StoredResponse;
use crate::store::postgres::error::is_unique_violation;
use crate::store::postgres::grouped::text;
use crate::store::postgres::records::Records;
use crate::store::postgres::statements::{CONSTRAINTS, SESSION, TransactionStatements, statement};
use crate::store::sql::micros;
use crate::store::transaction::TransactionRequest;

/// What will be written when the handler is done.
pub(super) struct RecordToWrite {
    pub(super) request: TransactionRequest,
    pub(super) sql: TransactionStatements,
    /// For each key, whether there was an expired record.
    pub(super) keys: Vec<(RecordKey, bool)>,
    pub(super) begun: Begun,
}

/// A session after its handler, compared with what it was before.
pub(super) struct Compared {
    /// Whether the transaction is the one that was begun.
    pub(super) is_ours: bool,
    pub(super) is_same: bool,
}

impl RecordToWrite {
    /// Whether the transaction is still the one that was begun, and whether the session is as it was.
    async fn compare(
        &self,
        connection: &mut PgConnection,
        session: &[String],
    ) -> sqlx::Result<Compared> {
        let row = statement(&SESSION.is_same)
            .bind(session)
            .fetch_one(&mut *connection)
            .await?;
        let is_same: bool = row.try_get("is_same")?;
        let is_ours = row.try_get::<Option<i64>, _>("id")? == Some(self.begun.id);
        if !is_ours {
            tracing::error!(record = %self.request.owner.key,
                "a handler ended its own transaction: its writes and its record were not committed together");
        }
        Ok(Compared { is_ours, is_same })
    }

    /// What the session was found to be, if that could be asked; and whether the record is written, which it is not when
    /// another request's is there. What the handler has changed is put back first, behind what it has deferred.
    pub(super) async fn write(
        &self,
        records: &Records,
        connection: &mut PgConnection,
        session: &[String],
        response: &StoredResponse,
        limit: Duration,
    ) -> (Option<Compared>, sqlx::Result<bool>) {
        let comparing = self.compare(connection, session);
        let compared = match in_time(limit, comparing).await {
            Ok(compared) => compared,
            Err(error) => return (None, Err(error)),
        };
        if !compared.is_same {
            let checking = sqlx::raw_sql(CONSTRAINTS).execute(&mut *connection);
            let checked = while_at_work(records, self.begun, limit, checking).await;
            if let Err(error) = checked.unwrap_or_else(silence) {
                return (Some(compared), Err(error));
            }
            let restoring = statement(&self.sql.restore)
                .bind(session)
                .bind(compared.is_ours);
            if let Err(error) = in_time(limit, restoring.execute(&mut *connection)).await {
                return (Some(compared), Err(error));
            }
        }
        let writing = self.write_all(connection, response);
        (Some(compared), in_time(limit, writing).await)
    }

    async fn write_all(
        &self,
        connection: &mut PgConnection,
        response: &StoredResponse,
    ) -> sqlx::Result<bool> {
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
                Ok(_) => return Ok(false),
                Err(error) if is_unique_violation(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
