//! An open transaction: what the handler writes, and the record.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::Pool;
use futures_util::future::join;
use tokio::runtime::Handle;
use tokio::time::{Duration, timeout};
use tokio_postgres::error::SqlState;

use super::error::{
    is_in_failed_transaction, is_of_connection, is_of_handler, is_unwritten, is_without_savepoint,
    store_error,
};
use super::lent::DeadpoolTransaction;
use super::pool::close_idle;
use super::record::{RecordToWrite, Sent};
use super::session::SessionBefore;
use crate::record::StoredResponse;
use crate::store::postgres::error::NAME;
use crate::store::postgres::records::Records;
use crate::store::postgres::statements::RIGHTS;
use crate::store::postgres::transaction::{
    Remaining, Unanswered, WithoutRecord, fate_without_connection,
};
use crate::store::sql::RETURN_LIMIT;
use crate::store::transaction::{Committed, Fate, SILENCE, Session, UNDO, bounded};
use crate::store::{StoreError, StoreErrorKind};

/// An open transaction.
pub(super) struct Open {
    pub(super) records: Arc<Records>,
    pub(super) pool: Pool,
    pub(super) lent: DeadpoolTransaction,
    pub(super) session: SessionBefore,
    pub(super) record: Option<RecordToWrite>,
    /// It was asked something and has not replied: a statement of the handler's still runs there.
    pub(super) is_silent: bool,
    /// How long what the handler has deferred may take, where nothing would tell later what has become of it.
    pub(super) deferred_limit: Duration,
}

#[async_trait]
impl Session<DeadpoolTransaction> for Open {
    fn connection(&mut self) -> &mut DeadpoolTransaction {
        &mut self.lent
    }

    async fn is_failed(&mut self) -> bool {
        self.lent.batch_execute("SELECT 1").await.is_err()
    }

    async fn fate(&mut self) -> Fate {
        match timeout(SILENCE, self.lent.batch_execute(UNDO)).await {
            Ok(Ok(())) => return Fate::Undone,
            Ok(Err(error)) if is_without_savepoint(&error) => return Fate::Ended,
            // The connection is lost.
            Ok(Err(_)) => {}
            Err(_) => self.is_silent(),
        }
        self.fate_without_connection(self.unanswered()).await
    }

    /// If there is no savepoint any more, the handler or the server has ended the transaction: what was committed cannot be
    /// taken back, so that its answer must be stored.
    async fn undo(&mut self, limit: Duration) -> Result<(), StoreError> {
        let undoing = async {
            let undone = match self.lent.batch_execute(UNDO).await {
                Err(error) if is_without_savepoint(&error) => {
                    self.lent.batch_execute("ROLLBACK").await
                }
                undone => undone,
            };
            undone.map_err(|error| store_error(error).not_executed())
        };
        bounded(NAME, limit, undoing).await
    }

    async fn commit(
        mut self: Box<Self>,
        response: &StoredResponse,
        limit: Duration,
    ) -> Result<Committed, StoreError> {
        let Some(record) = &self.record else {
            return bounded(NAME, self.deferred_limit, self.commit_without_record()).await;
        };
        let sent = record.commit(&self.records, &self.lent, &self.session, response, limit);
        match sent.await {
            Sent::Committed { is_as_it_was } => {
                self.give_back_or_close(is_as_it_was);
                Ok(Committed::Stored)
            }
            Sent::Refused { error, is_ours } => {
                let remaining = self.remaining(is_ours).await;
                self.refused(error, remaining, response).await
            }
            Sent::Deferred(error) => {
                let remaining = self.remaining(None).await;
                let error = Some(self.failed(error));
                self.settle(error, remaining, response).await
            }
            Sent::Undone(error) => self.refused(error, Remaining::Others, response).await,
            Sent::Failed(error) => Err(self.failed(error)),
            Sent::Unknown(error) => {
                let remaining = self.remaining_behind_commit(None).await;
                self.refused(error, remaining, response).await
            }
            Sent::Silent { is_ours } => {
                self.is_silent();
                let remaining = self.remaining_behind_commit(is_ours).await;
                let error = Some(StoreError::new(NAME, StoreErrorKind::TimedOut));
                self.settle(error, remaining, response).await
            }
        }
    }

    async fn roll_back(self: Box<Self>) {
        // A connection on which that fails is closed, and then the server does it.
        if !self.is_silent && self.lent.batch_execute("ROLLBACK").await.is_ok() {
            self.give_back_if_same();
        }
    }

    async fn abandon(self: Box<Self>) {
        let (left, rolling_back) = (self.without_record(), self.roll_back());
        let settling = left.settle(Remaining::Others, None, None, rolling_back);
        drop(Box::pin(settling).await);
    }
}

impl Open {
    /// Whether the pool's role may write records.
    pub(super) async fn is_allowed(&self, relation: &Arc<str>) -> Result<bool, StoreError> {
        let asking = async {
            let row = self.lent.query_one(RIGHTS, &[&&**relation]).await?;
            row.try_get("is_allowed")
        };
        asking
            .await
            .map_err(|error| store_error(error).not_executed())
    }

    /// A transaction that takes no more statements is rolled back by COMMIT, without an error: so one is sent in front, and
    /// where that fails, the server does not come to COMMIT. The session is asked for behind it.
    async fn commit_without_record(mut self: Box<Self>) -> Result<Committed, StoreError> {
        let committing = self.lent.batch_execute("SELECT 1; COMMIT");
        match join(committing, self.session.is_same(&self.lent)).await {
            (Ok(()), is_same) => {
                self.give_back_or_close(is_same.unwrap_or(false));
                Ok(Committed::Stored)
            }
            (Err(error), _) if is_in_failed_transaction(&error) => {
                let fate = self.fate().await;
                self.roll_back().await;
                Ok(fate.without_record())
            }
            (Err(error), _) => Err(self.failed(error)),
        }
    }

    /// What the connection is in, after the record was refused there.
    async fn remaining(&mut self, is_ours: Option<bool>) -> Remaining {
        let undone = match timeout(SILENCE, self.lent.batch_execute(UNDO)).await {
            Ok(undone) => undone.err(),
            Err(_) => {
                self.is_silent();
                None
            }
        };
        let refused = undone.as_ref().and_then(tokio_postgres::Error::code);
        let is_lost = |error| is_of_connection(error) && !is_of_handler(error);
        if is_ours.is_none() && (self.is_silent || undone.as_ref().is_some_and(is_lost)) {
            let fate = self.fate_without_connection(self.unanswered()).await;
            return Remaining::of_lost_connection(fate);
        }
        Remaining::of(refused.map(SqlState::code), is_ours)
    }

    /// What has become of a transaction whose connection is lost or silent behind `COMMIT`.
    async fn remaining_behind_commit(&self, is_ours: Option<bool>) -> Remaining {
        match is_ours {
            Some(true) => Remaining::Undecided,
            Some(false) => Remaining::Others,
            None => {
                let fate = self.fate_without_connection(Unanswered::Commit).await;
                Remaining::of_lost_connection(fate)
            }
        }
    }

    /// The connection has not replied in time: it is not asked any more.
    fn is_silent(&mut self) {
        self.is_silent = true;
        // The peer may be gone without a word, and then for all.
        close_idle(&self.pool);
    }

    const fn unanswered(&self) -> Unanswered {
        match self.is_silent {
            true => Unanswered::Statement,
            false => Unanswered::Nothing,
        }
    }

    async fn fate_without_connection(&self, unanswered: Unanswered) -> Fate {
        let begun = self.record.as_ref().map(|record| record.begun);
        fate_without_connection(&self.records, begun, unanswered).await
    }

    /// The record is not written.
    async fn refused(
        self: Box<Self>,
        error: tokio_postgres::Error,
        remaining: Remaining,
        response: &StoredResponse,
    ) -> Result<Committed, StoreError> {
        let is_unwritten = is_unwritten(&error);
        let error = self.failed(error);
        let error = (!is_unwritten).then_some(error);
        self.settle(error, remaining, response).await
    }

    async fn settle(
        self: Box<Self>,
        error: Option<StoreError>,
        remaining: Remaining,
        response: &StoredResponse,
    ) -> Result<Committed, StoreError> {
        let (left, rolling_back) = (self.without_record(), self.roll_back());
        let settling = left.settle(remaining, error, Some(response), rolling_back);
        Box::pin(settling).await
    }

    fn without_record(&self) -> WithoutRecord {
        let record = self.record.as_ref();
        let begun = record.map(|record| (&record.request, record.begun));
        WithoutRecord::of(&self.records, begun, self.is_silent)
    }

    /// What is wrong with this connection can be wrong with all that are idle.
    fn failed(&self, error: tokio_postgres::Error) -> StoreError {
        if is_of_connection(&error) && !is_of_handler(&error) {
            close_idle(&self.pool);
        }
        store_error(error)
    }

    /// Most changes end with the transaction. A connection that is left with others is closed.
    fn give_back_if_same(self) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let asking = timeout(RETURN_LIMIT, self.session.is_same(&self.lent)).await;
            self.give_back_or_close(matches!(asking, Ok(Ok(true))));
        });
    }

    fn give_back_or_close(self, is_same: bool) {
        if is_same {
            self.lent.give_back();
            return;
        }
        let record = self.record.as_ref();
        let record = record.map(|record| tracing::field::display(record.request.owner.key));
        tracing::warn!(
            record,
            "a handler has changed the settings of its session: the connection is closed"
        );
    }
}
