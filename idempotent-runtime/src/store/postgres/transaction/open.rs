//! An open transaction: what the handler writes, and the record.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{Connection, PgConnection, Postgres, Row};
use tokio::runtime::Handle;
use tokio::time::{Duration, timeout};

use super::ended::{Remaining, WithoutRecord};
use super::fate::{Unanswered, fate_without_connection, is_in_progress};
use super::pool::close_idle;
use super::record::RecordToWrite;
use super::silence::{in_time, is_silence};
use crate::record::StoredResponse;
use crate::store::StoreError;
use crate::store::postgres::error::{
    NAME, code, is_code_of_handler, is_of_connection, is_without_savepoint, store_error,
};
use crate::store::postgres::records::Records;
use crate::store::postgres::statements::{SESSION, statement};
use crate::store::sql::{Loan, RETURN_LIMIT, transaction};
use crate::store::transaction::{Committed, Fate, SILENCE, Session, UNDO, bounded};

/// An open transaction.
pub(super) struct Open {
    pub(super) records: Arc<Records>,
    pub(super) connection: Loan<Postgres>,
    /// What the session was set to before.
    pub(super) session: Vec<String>,
    pub(super) record: Option<RecordToWrite>,
    /// It was asked something and has not replied: a statement of the handler's still runs there.
    pub(super) is_silent: bool,
    /// What the handler has written was taken back by `sqlx` and not to the savepoint: what follows is committed at once.
    pub(super) is_without_transaction: bool,
    /// How long what the handler has deferred may take, where nothing would tell later what has become of it.
    pub(super) deferred_limit: Duration,
}

#[async_trait]
impl Session<PgConnection> for Open {
    fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    async fn is_failed(&mut self) -> bool {
        // Not to be asked: that would send the rollback.
        if self.is_rolled_back() {
            return true;
        }
        let anything = sqlx::raw_sql("SELECT 1").execute(&mut *self.connection);
        anything.await.is_err()
    }

    async fn fate(&mut self) -> Fate {
        let is_taken_back = self.is_taken_back().await;
        let undoing = sqlx::raw_sql(UNDO).execute(&mut *self.connection);
        match timeout(SILENCE, undoing).await {
            Ok(Ok(_)) => return Fate::Undone,
            Ok(Err(error)) if is_without_savepoint(&error) => {
                return match is_taken_back {
                    true => Fate::Undone,
                    false => Fate::Ended,
                };
            }
            // The connection is lost.
            Ok(Err(_)) => {}
            Err(_) => self.is_silent(),
        }
        self.fate_without_connection().await
    }

    async fn undo(&mut self, limit: Duration) -> Result<(), StoreError> {
        self.is_without_transaction = self.is_taken_back().await;
        let undoing = transaction::undo::<Postgres>(&mut self.connection, is_without_savepoint);
        let undone = in_time(limit, undoing).await;
        undone.map_err(|error| store_error(error).not_executed())
    }

    async fn commit(
        mut self: Box<Self>,
        response: &StoredResponse,
        limit: Duration,
    ) -> Result<Committed, StoreError> {
        if self.is_rolled_back() && !self.is_without_transaction {
            return self.without_transaction(response).await;
        }
        let Some(record) = &self.record else {
            return bounded(NAME, self.deferred_limit, self.commit_without_record()).await;
        };
        let (compared, written) = record
            .write(
                &self.records,
                &mut self.connection,
                &self.session,
                response,
                limit,
            )
            .await;
        let is_ours = compared.as_ref().map(|compared| compared.is_ours);
        match written {
            Ok(true) => {}
            refused => {
                if refused.as_ref().is_err_and(is_silence) {
                    self.is_silent();
                }
                let remaining = self.remaining(is_ours).await;
                return self.refused(refused.err(), remaining, response).await;
            }
        }
        let is_committed = self.is_without_transaction;
        let committing = async {
            match is_committed {
                true => Ok(()),
                false => transaction::commit::<Postgres>(&mut self.connection).await,
            }
        };
        if let Err(error) = in_time(limit, committing).await {
            if is_silence(&error) {
                self.is_silent();
            }
            if is_ours == Some(false) {
                let others = Remaining::Others;
                return self.refused(Some(error), others, response).await;
            }
            return Err(self.failed(error));
        }
        if compared.is_some_and(|compared| compared.is_ours && compared.is_same) {
            self.connection.give_back();
        } else {
            self.give_back_if_same();
        }
        Ok(Committed::Stored)
    }

    async fn roll_back(mut self: Box<Self>) {
        if self.is_silent {
            // Closed, and then the server does it.
            return;
        }
        // A connection on which that fails is closed likewise.
        let rolled_back = transaction::roll_back::<Postgres>(&mut self.connection).await;
        if rolled_back.is_ok() {
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
    fn is_rolled_back(&self) -> bool {
        transaction::is_rolled_back::<Postgres>(&self.connection)
    }

    /// Whether `sqlx` has rolled back the whole and the handler has sent nothing since: the rollback is not sent yet, so that the
    /// server has the transaction still.
    async fn is_taken_back(&self) -> bool {
        let is_unsent = self.is_rolled_back() && self.connection.should_flush();
        match &self.record {
            Some(record) if is_unsent => is_in_progress(&self.records, record.begun).await,
            _ => is_unsent,
        }
    }

    /// What the handler has written behind a rollback of `sqlx`'s is committed, and what it has written before is not: its answer
    /// may not be true.
    async fn without_transaction(
        self: Box<Self>,
        response: &StoredResponse,
    ) -> Result<Committed, StoreError> {
        let is_protected = self.record.is_some();
        let settled = self.refused(None, Remaining::Others, response).await?;
        Ok(match is_protected {
            true => settled,
            false => Committed::Unknown,
        })
    }

    /// A transaction that takes no more statements is rolled back by COMMIT, without an error.
    async fn commit_without_record(mut self: Box<Self>) -> Result<Committed, StoreError> {
        if self.is_failed().await {
            let fate = self.fate().await;
            self.roll_back().await;
            return Ok(fate.without_record());
        }
        let committed = transaction::commit::<Postgres>(&mut self.connection).await;
        committed.map_err(|error| self.failed(error))?;
        self.give_back_if_same();
        Ok(Committed::Stored)
    }

    /// The connection has not replied in time: it is not asked any more.
    fn is_silent(&mut self) {
        self.is_silent = true;
        // The peer may be gone without a word, and then for all.
        close_idle(self.records.connector().pool());
    }

    async fn fate_without_connection(&self) -> Fate {
        let begun = self.record.as_ref().map(|record| record.begun);
        let unanswered = match self.is_silent {
            true => Unanswered::Statement,
            false => Unanswered::Nothing,
        };
        fate_without_connection(&self.records, begun, unanswered).await
    }

    /// What the connection is in, after the record was refused there.
    async fn remaining(&mut self, is_ours: Option<bool>) -> Remaining {
        let mut undone = None;
        if !self.is_silent {
            let undoing = sqlx::raw_sql(UNDO).execute(&mut *self.connection);
            undone = in_time(SILENCE, undoing).await.err();
            if undone.as_ref().is_some_and(is_silence) {
                self.is_silent();
            }
        }
        let refused = undone.as_ref().and_then(code);
        let is_handlers = refused.as_deref().is_some_and(is_code_of_handler);
        let is_lost = !is_handlers && undone.as_ref().is_some_and(is_of_connection);
        if is_ours.is_none() && (self.is_silent || is_lost) {
            return Remaining::of_lost_connection(self.fate_without_connection().await);
        }
        Remaining::of(refused.as_deref(), is_ours)
    }

    /// The record is not written.
    async fn refused(
        self: Box<Self>,
        error: Option<sqlx::Error>,
        remaining: Remaining,
        response: &StoredResponse,
    ) -> Result<Committed, StoreError> {
        let error = error.map(|error| self.failed(error));
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
    fn failed(&self, error: sqlx::Error) -> StoreError {
        if is_of_connection(&error) && !code(&error).is_some_and(|code| is_code_of_handler(&code)) {
            close_idle(self.records.connector().pool());
        }
        store_error(error)
    }

    /// Most changes end with the transaction. A connection that is left with others is closed.
    fn give_back_if_same(self) {
        let Self {
            mut connection,
            session,
            record,
            ..
        } = self;
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let asking = statement(&SESSION.is_same)
                .bind(session)
                .fetch_one(&mut *connection);
            let is_same = match timeout(RETURN_LIMIT, asking).await {
                Ok(Ok(row)) => row.try_get("is_same").unwrap_or(false),
                Ok(Err(_)) | Err(_) => false,
            };
            if is_same {
                connection.give_back();
            } else {
                let record = record.map(|record| tracing::field::display(record.request.owner.key));
                tracing::warn!(
                    record,
                    "a handler has changed the settings of its session: the connection is closed"
                );
            }
        });
    }
}
