//! The record of a transaction, and the session that it is written in.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{join, join3, maybe_done, try_join_all};
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Statement};

use super::error::is_refusal;
use super::lent::DeadpoolTransaction;
use super::session::SessionBefore;
use crate::key::RecordKey;
use crate::record::StoredResponse;
use crate::store::postgres::grouped::text;
use crate::store::postgres::records::Records;
use crate::store::postgres::statements::{CONSTRAINTS, TransactionStatements};
use crate::store::postgres::transaction::{Begun, while_at_work};
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

/// Behind a statement that has failed it fails, where `COMMIT` alone would roll back: the transaction can be asked then
/// whether it is the one that was begun.
const COMMIT: &str = "SELECT; COMMIT";

/// What will be written when the handler is done.
pub(super) struct RecordToWrite {
    pub(super) request: TransactionRequest,
    pub(super) sql: TransactionStatements,
    put_back: Statement,
    /// For each key, what writes its record, or fails.
    pub(super) keys: Vec<(RecordKey, Statement)>,
    pub(super) begun: Begun,
}

/// What has become of a record that was sent together with `COMMIT`.
pub(super) enum Sent {
    Committed {
        /// Whether the session is as it was, behind `COMMIT`.
        is_as_it_was: bool,
    },
    /// The server has refused it, or it was not sent. Without `COMMIT` nothing happens, unless the handler has sent one.
    Refused {
        error: Error,
        /// Whether the transaction was the one that was begun, if that is known.
        is_ours: Option<bool>,
    },
    /// What the handler had deferred was refused.
    Deferred(Error),
    /// `COMMIT` was refused to a transaction of the handler's.
    Undone(Error),
    /// The connection is lost, or `COMMIT` was refused to the one that was begun.
    Failed(Error),
    /// The connection is lost, and it is not known whether the transaction was the one that was begun.
    Unknown(Error),
    /// There was no reply in time, to `COMMIT` at least.
    Silent {
        /// As above.
        is_ours: Option<bool>,
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
            begun: Begun::default(),
        }
    }

    /// Does what is deferred, puts the session back, writes the record, commits, and asks for the session. All of it is sent
    /// before the first reply is here. The server takes one after the other, and does not come to `COMMIT` if one of those
    /// before it has failed.
    pub(super) async fn commit(
        &self,
        records: &Records,
        lent: &DeadpoolTransaction,
        session: &SessionBefore,
        response: &StoredResponse,
        limit: Duration,
    ) -> Sent {
        let encoded = response.encode();
        let mut checking = pin!(maybe_done(lent.batch_execute(CONSTRAINTS)));
        let mut putting = pin!(maybe_done(self.put_back(lent, &session.settings)));
        let mut writing = pin!(maybe_done(self.write(lent, response.status, &encoded)));
        // The order is that of the first polls. An error here says that something could not be sent, and then neither is
        // COMMIT.
        poll_once(checking.as_mut()).await;
        poll_once(putting.as_mut()).await;
        poll_once(writing.as_mut()).await;
        let is_sent = !matches!(putting.as_mut().output_mut(), Some(Err(_)))
            && !matches!(writing.as_mut().output_mut(), Some(Err(_)));
        let mut ending = pin!(maybe_done(async {
            match is_sent {
                true => Some(join(lent.batch_execute(COMMIT), session.is_same(lent)).await),
                false => None,
            }
        }));
        poll_once(ending.as_mut()).await;
        let checked = while_at_work(records, self.begun, limit, checking.as_mut()).await;
        let rest = join3(putting.as_mut(), writing.as_mut(), ending.as_mut());
        if checked.is_none() || timeout(limit, rest).await.is_err() {
            let put = putting.take_output().and_then(Result::ok);
            return Sent::Silent { is_ours: put };
        }
        let (Some(checked), Some(put), Some(written), Some(ended)) = (
            checking.take_output(),
            putting.take_output(),
            writing.take_output(),
            ending.take_output(),
        ) else {
            unreachable!("all are done");
        };
        let is_ours = put.as_ref().ok().copied();
        let is_deferred = checked.as_ref().is_err_and(is_refusal);
        match (checked.and(put.and(written)), ended) {
            (Err(error), _) if is_deferred => Sent::Deferred(error),
            (Ok(()), Some((Ok(()), is_same))) => Sent::Committed {
                is_as_it_was: is_same.unwrap_or(false),
            },
            (Ok(()), Some((Err(error), _))) if is_ours == Some(true) => Sent::Failed(error),
            (Ok(()), Some((Err(error), _))) => Sent::Undone(error),
            (Err(error), ended) => {
                let is_decided = ended.is_none() || is_ours == Some(false) || is_refusal(&error);
                match is_ours {
                    _ if is_decided => Sent::Refused { error, is_ours },
                    Some(_) => Sent::Failed(error),
                    None => Sent::Unknown(error),
                }
            }
            (Ok(()), None) => unreachable!("what was not sent is an error"),
        }
    }

    /// Puts back what the handler has changed in its session, and says whether the transaction is still the one that was
    /// begun.
    async fn put_back(
        &self,
        lent: &DeadpoolTransaction,
        settings: &Vec<String>,
    ) -> Result<bool, Error> {
        let row = lent
            .query_one(&self.put_back, &[settings, &self.begun.id])
            .await?;
        let is_ours = row.try_get::<_, Option<i64>>("id")? == Some(self.begun.id);
        if !is_ours {
            tracing::error!(record = %self.request.owner.key,
                "a handler ended its own transaction: its writes and its record were not committed together");
        }
        Ok(is_ours)
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

/// Polls a future once, whether it is done then or not.
async fn poll_once<F: Future<Output = ()>>(mut future: Pin<&mut F>) {
    poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
}
