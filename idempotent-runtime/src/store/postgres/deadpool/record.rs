//! The record of a transaction, and the session that it is written in.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use futures_util::future::{join, try_join, try_join_all};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Statement};

use super::error::{is_refusal, is_unwritten};
use super::lent::DeadpoolTransaction;
use crate::key::RecordKey;
use crate::record::StoredResponse;
use crate::store::postgres::grouped::text;
use crate::store::postgres::statements::TransactionStatements;
use crate::store::sql::micros;
use crate::store::transaction::TransactionRequest;

/// The types of a record's parameters. The server would take the TTL for a float.
pub(super) const COLUMNS: [Type; 8] = [
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA,
    Type::TEXT,
    Type::INT2,
    Type::BYTEA,
    Type::INT8,
    Type::TEXT,
];

/// What will be written when the handler is done.
pub(super) struct RecordToWrite {
    pub(super) request: TransactionRequest,
    pub(super) sql: TransactionStatements,
    put_back: Statement,
    /// For each key, what writes its record, or fails.
    pub(super) keys: Vec<(RecordKey, Statement)>,
    /// When the transaction began, by the server: what tells it from one that the handler has begun
    /// after ending this one.
    pub(super) begun_us: i64,
    /// What the session was set to then.
    pub(super) session: Vec<String>,
}

/// What has become of a record that was sent together with `COMMIT`.
pub(super) enum Sent {
    Committed {
        /// Whether the handler has left the session as it was.
        is_as_it_was: bool,
    },
    /// Another request's record is there, and everything is rolled back.
    Lost,
    Failed {
        error: Error,
        /// Whether certainly nothing was committed.
        is_rolled_back: bool,
    },
}

impl RecordToWrite {
    pub(super) fn new(
        request: TransactionRequest,
        sql: TransactionStatements,
        put_back: Statement,
    ) -> Self {
        Self {
            request,
            sql,
            put_back,
            keys: Vec::new(),
            begun_us: 0,
            session: Vec::new(),
        }
    }

    /// Puts the session back, writes the record and commits. All of it is sent before the first reply is here. The server
    /// takes one after the other, and `COMMIT` rolls back if one of those before it has failed.
    pub(super) async fn commit(
        &self,
        lent: &DeadpoolTransaction,
        response: &StoredResponse,
    ) -> Sent {
        let encoded = response.encode();
        let mut writing = pin!(try_join(
            self.put_back(lent),
            self.write(lent, response.status, &encoded)
        ));
        // The order is that of the first polls. Nothing can have been answered yet, so a result says that something
        // could not be sent; and then neither is COMMIT.
        if let Some(Err(error)) = started(writing.as_mut()).await {
            let is_rolled_back = true;
            return Sent::Failed {
                error,
                is_rolled_back,
            };
        }
        match join(writing, lent.batch_execute("COMMIT")).await {
            (Ok((is_as_it_was, ())), Ok(())) => Sent::Committed { is_as_it_was },
            (Ok(_), Err(error)) => Sent::Failed {
                error,
                is_rolled_back: false,
            },
            (Err(error), _) if is_unwritten(&error) => Sent::Lost,
            (Err(error), _) => Sent::Failed {
                is_rolled_back: is_refusal(&error),
                error,
            },
        }
    }

    /// Puts back what the handler has changed in its session, and says whether that was nothing.
    async fn put_back(&self, lent: &DeadpoolTransaction) -> Result<bool, Error> {
        let row = lent
            .query_one(&self.put_back, &[&self.session, &self.begun_us])
            .await?;
        let is_same: bool = row.try_get("is_same")?;
        let is_ours = row.try_get::<_, i64>("begun_us")? == self.begun_us;
        if !is_ours {
            tracing::error!(record = %self.request.owner.key,
                "a handler has ended its transaction by itself: its writes and its record were not committed together");
        }
        Ok(is_ours && is_same)
    }

    async fn write(
        &self,
        lent: &DeadpoolTransaction,
        status: u16,
        encoded: &[u8],
    ) -> Result<(), Error> {
        let request = &self.request;
        let fingerprint = &request.fingerprint.as_bytes()[..];
        let token = &request.owner.token.as_bytes()[..];
        let operation = text(&request.operation);
        let label = request.label.as_deref().map(text);
        let (status, ttl) = (i16::try_from(status).ok(), micros(request.ttl));
        let writing = self.keys.iter().map(|(key, write)| {
            let (fingerprint, token, operation, label) = (&fingerprint, &token, &operation, &label);
            let (status, ttl, encoded) = (&status, &ttl, &encoded);
            async move {
                let key = &key.as_bytes()[..];
                let columns: [&(dyn ToSql + Sync); 8] = [
                    &key,
                    fingerprint,
                    token,
                    operation,
                    status,
                    encoded,
                    ttl,
                    label,
                ];
                lent.execute(write, &columns).await
            }
        });
        try_join_all(writing).await.map(drop)
    }
}

/// Polls a future once, and returns its result if it has one.
async fn started<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}
