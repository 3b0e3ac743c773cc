//! An open transaction: what the handler writes, and the record.

use std::pin::pin;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection};
use tokio::time::timeout;

use super::connection::Borrowed;
use super::session::SessionState;
use crate::record::{Owner, StoredResponse};
use crate::store::mysql::error::{
    NAME, check_packet, is_denied, is_not_locked, is_read_only, is_without_savepoint,
};
use crate::store::mysql::records::Records;
use crate::store::sql::{RETURN_LIMIT, transaction};
use crate::store::transaction::{
    Committed, Fate, IS_WHOLE, SILENCE, Session, TransactionRequest, UNDO, bounded,
};
use crate::store::{StoreError, StoreErrorKind};

/// For the record of a transaction that has ended by itself: prepare.sql has made all others read-only.
const READ_WRITE: &str = "ROLLBACK AND NO CHAIN NO RELEASE; SET SESSION TRANSACTION READ WRITE";

/// By how much the server's clock may have gone ahead of this process's during a transaction.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60 * 60);

/// An open transaction.
pub(super) struct Open {
    pub(super) connection: Borrowed,
    pub(super) request: Option<TransactionRequest>,
    pub(super) before: SessionState,
    /// Before it was begun.
    pub(super) asked_at: Instant,
    pub(super) records: Records,
}

#[async_trait]
impl Session<MySqlConnection> for Open {
    fn connection(&mut self) -> &mut MySqlConnection {
        &mut self.connection
    }

    async fn is_failed(&mut self) -> bool {
        false
    }

    /// If the server has ended the transaction, it has rolled it back, and the record with it. If the handler has committed
    /// it, the record is there.
    async fn fate(&mut self) -> Fate {
        let undoing = sqlx::raw_sql(UNDO).execute(&mut *self.connection);
        let undone = timeout(SILENCE, undoing).await;
        let (records, session) = (&self.records, self.before.number);
        let Some(request) = &self.request else {
            // There is no record that could tell of a connection that does not.
            return match undone {
                Ok(Err(error)) if is_without_savepoint(&error) => Fate::Ended,
                Ok(_) | Err(_) => Fate::Undone,
            };
        };
        match undone {
            Ok(Ok(_)) => Fate::Undone,
            Ok(Err(error)) if is_without_savepoint(&error) => {
                let fate = records.fate_of_ended(request).await;
                fate.unwrap_or(Fate::Undecided)
            }
            // The connection is lost. What was not committed by its handler is rolled back.
            Ok(Err(_)) => {
                let fate = records.fate_of_session(request, session).await;
                fate.unwrap_or(Fate::Undone)
            }
            Err(_) => {
                let fate = records.fate_of_session(request, session).await;
                fate.unwrap_or(Fate::Undecided)
            }
        }
    }

    /// If the server has ended the transaction, it has rolled it back, and the record is gone. If the handler has
    /// committed it, as by `CREATE TABLE`, the record is there, and must be completed.
    ///
    /// Taking back what was written takes about as long as writing it.
    async fn undo(&mut self, limit: Duration) -> Result<(), StoreError> {
        let (records, session) = (&self.records, self.before.number);
        let undoing = transaction::undo::<MySql>(&mut self.connection, is_without_savepoint);
        let mut undoing = pin!(undoing);
        loop {
            if let Ok(undone) = timeout(limit, &mut undoing).await {
                return undone.map_err(|error| records.fault(error).error.not_executed());
            }
            if !matches!(records.is_undoing(session).await, Ok(true)) {
                return Err(StoreError::new(NAME, StoreErrorKind::TimedOut));
            }
        }
    }

    async fn commit(
        self: Box<Self>,
        response: &StoredResponse,
        limit: Duration,
    ) -> Result<Committed, StoreError> {
        bounded(NAME, limit, self.try_commit(response)).await
    }

    async fn roll_back(mut self: Box<Self>) {
        let rolled_back = transaction::roll_back::<MySql>(&mut self.connection).await;
        if rolled_back.is_ok() {
            self.leave().await;
        }
    }
}

impl Open {
    async fn try_commit(
        mut self: Box<Self>,
        response: &StoredResponse,
    ) -> Result<Committed, StoreError> {
        let remaining = match self.request.clone() {
            // What is not committed has not happened.
            Some(request) => match self.record(&request, response).await {
                Ok(true) => None,
                Ok(false) => Some(Committed::Lost),
                Err(error) => return Err(error.not_executed()),
            },
            None => self.is_not_whole().await,
        };
        if let Some(committed) = remaining {
            self.roll_back().await;
            return Ok(committed);
        }
        let committed = transaction::commit::<MySql>(&mut self.connection).await;
        committed.map_err(|error| self.records.fault(error).error)?;
        // No caller waits for what is left to do.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(timeout(RETURN_LIMIT, self.leave()));
        }
        Ok(Committed::Stored)
    }

    /// `false` when the record is gone, and the transaction with it.
    async fn record(
        &mut self,
        request: &TransactionRequest,
        response: &StoredResponse,
    ) -> Result<bool, StoreError> {
        let most = self.before.max_packet_bytes;
        let without_body = |error: &StoreError| {
            // The handler must not run again for that.
            tracing::error!(record = %request.owner.key, error = error as &dyn std::error::Error,
                "a response is too large for the store; its record is stored without the body");
            let bytes = response.without_body().encode();
            check_packet(bytes.len(), most).map(|()| bytes)
        };
        let mut bytes = response.encode();
        let mut is_whole = response.body.is_some();
        if let Err(error) = check_packet(bytes.len(), most) {
            bytes = without_body(&error)?;
            is_whole = false;
        }
        let (token, ttl, status) = (request.owner.token, request.ttl, response.status);
        for key in request.keys() {
            let owner = Owner { key, token };
            let mut recorded = self.record_one(&owner, ttl, status, &bytes).await;
            if let Err(error) = &recorded
                && is_whole
                && error.kind() == StoreErrorKind::TooLarge
            {
                // The engine can take less than a packet has.
                bytes = without_body(error)?;
                is_whole = false;
                recorded = self.record_one(&owner, ttl, status, &bytes).await;
            }
            if !recorded? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A handler that has given up its privileges, has locked other tables, or has committed by itself, gets its record all
    /// the same. What it has begun then is rolled back: it is read-only.
    async fn record_one(
        &mut self,
        owner: &Owner,
        ttl: Duration,
        status: u16,
        response: &[u8],
    ) -> Result<bool, StoreError> {
        let mut is_unlocked = false;
        let mut is_restored = false;
        let mut is_writable = false;
        loop {
            let latest = self.asked_at.elapsed() + CLOCKS_DIFFER;
            let record = self
                .records
                .statements
                .record(owner, (status, response), latest, ttl);
            let again = match record.execute(&mut *self.connection).await {
                Ok(recorded) => return Ok(recorded.rows_affected() > 0),
                Err(error) if !is_unlocked && is_not_locked(&error) => {
                    is_unlocked = true;
                    "UNLOCK TABLES".to_owned()
                }
                Err(error) if !is_writable && is_read_only(&error) => {
                    is_writable = true;
                    READ_WRITE.to_owned()
                }
                Err(error) if !is_restored && is_denied(&error) => {
                    is_restored = true;
                    self.before.set_role()
                }
                Err(error) => return Err(self.records.fault(error).error),
            };
            let again = sqlx::raw_sql(AssertSqlSafe(again)).execute(&mut *self.connection);
            let failed = |error| self.records.fault(error).error;
            again.await.map_err(failed)?;
        }
    }

    /// What has become of a transaction without a record that is not whole any more. Without its savepoint it was ended, by the
    /// handler's own `COMMIT` or by the server's rollback, and nothing tells which.
    async fn is_not_whole(&mut self) -> Option<Committed> {
        let released = sqlx::raw_sql(IS_WHOLE).execute(&mut *self.connection);
        match released.await {
            Ok(_) => None,
            Err(error) if is_without_savepoint(&error) => Some(Committed::Unknown),
            Err(_) => Some(Committed::Lost),
        }
    }

    async fn leave(self: Box<Self>) {
        let Self {
            connection,
            before,
            records,
            ..
        } = *self;
        records.leave(connection, &before).await;
    }
}
