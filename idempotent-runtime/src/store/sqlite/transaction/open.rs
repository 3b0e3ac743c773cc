//! An open transaction: what the handler writes, and the record.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::SqliteConnection;
use tokio::sync::OwnedMutexGuard;

use crate::key::RecordKey;
use crate::record::{Owner, StoredResponse};
use crate::store::sqlite::claim::TryClaim;
use crate::store::sqlite::database::Database;
use crate::store::sqlite::error::{NAME, Undone, commit_error, store_error};
use crate::store::sqlite::job::WriteOperation as _;
use crate::store::sqlite::session::WriteSession;
use crate::store::sqlite::shared::{Handlers, SharedState};
use crate::store::sqlite::time::Time;
use crate::store::transaction::{
    Committed, Fate, IS_WHOLE, Session, TransactionRequest, UNDO, bounded,
};
use crate::store::{Claim, ClaimRequest, StoreError, StoreErrorKind};

/// Dropped, it interrupts what its handler has left running and closes its connection, which rolls it back.
pub(super) struct Open {
    pub(super) session: WriteSession,
    /// Both are given up after the connection: at once, whatever SQLite is still busy with.
    pub(super) _turn: OwnedMutexGuard<()>,
    pub(super) handlers: OwnedMutexGuard<Handlers>,
    pub(super) request: Option<TransactionRequest>,
    pub(super) database: Arc<Database>,
    pub(super) shared: Arc<SharedState>,
}

impl Open {
    async fn try_commit(
        mut self: Box<Self>,
        response: &StoredResponse,
    ) -> Result<Committed, StoreError> {
        let request = self.request.take();
        let is_whole = match &request {
            Some(request) => self.record(request, response).await?,
            None => self.execute(IS_WHOLE).await.is_ok(),
        };
        if !is_whole {
            self.roll_back().await;
            return Ok(Committed::Lost);
        }
        self.session.commit_nestable().await.map_err(commit_error)?;
        self.session
            .is_there(&self.database)
            .map_err(|lost| StoreError::new(NAME, StoreErrorKind::Unavailable).with_source(lost))?;
        for key in request.iter().flat_map(TransactionRequest::keys) {
            self.shared.waiters.wake(&key);
        }
        self.give_back().await;
        Ok(Committed::Stored)
    }

    pub(super) async fn claim(
        &mut self,
        request: &TransactionRequest,
        key: RecordKey,
    ) -> Result<Claim, StoreError> {
        let token = request.owner.token;
        let claim = ClaimRequest {
            owner: Owner { key, token },
            fingerprint: request.fingerprint,
            operation: &request.operation,
            label: request.label.as_deref(),
            // Should the handler commit by itself, what others see is that it is unknown how that ends.
            lease: Duration::ZERO,
            retention: request.ttl,
            progress: &[],
            take_over: None,
        };
        let claim = TryClaim::new(&claim, request.ttl);
        match claim.run(&mut self.session).await {
            Ok((claim, _)) => Ok(claim),
            Err(Undone::Alone(error)) => Err(error),
            Err(Undone::WithItsGroup(error)) => Err(store_error(error)),
        }
    }

    /// `false` when a record is gone, and the transaction with it.
    async fn record(
        &mut self,
        request: &TransactionRequest,
        response: &StoredResponse,
    ) -> Result<bool, StoreError> {
        let encoded = response.encode();
        for key in request.keys() {
            let record = sqlx::query(self.session.statements.record.clone())
                .bind(key.as_bytes().to_vec())
                .bind(request.owner.token.as_bytes().to_vec())
                .bind(Time::now().after(request.ttl).0)
                .bind(response.status)
                .bind(encoded.clone());
            let recorded = record.execute(&mut self.session.connection).await;
            if recorded.map_err(store_error)?.rows_affected() == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) async fn execute(&mut self, statement: &'static str) -> sqlx::Result<()> {
        let executed = sqlx::raw_sql(statement).execute(&mut self.session.connection);
        executed.await.map(drop)
    }

    /// Keeps the connection for the next transaction, if it is as it was.
    async fn give_back(mut self) {
        if self.session.is_as_lent().await {
            self.handlers.0 = Some(self.session);
        }
    }
}

#[async_trait]
impl Session<SqliteConnection> for Open {
    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.session.connection
    }

    async fn is_failed(&mut self) -> bool {
        false
    }

    /// A commit that is not this store's is refused.
    async fn fate(&mut self) -> Fate {
        Fate::Undone
    }

    async fn undo(&mut self, limit: Duration) -> Result<(), StoreError> {
        let undoing = async { self.execute(UNDO).await.map_err(store_error) };
        bounded(NAME, limit, undoing).await
    }

    async fn commit(
        self: Box<Self>,
        response: &StoredResponse,
        limit: Duration,
    ) -> Result<Committed, StoreError> {
        bounded(NAME, limit, self.try_commit(response)).await
    }

    async fn roll_back(mut self: Box<Self>) {
        if self.session.roll_back_nestable().await.is_ok() {
            self.give_back().await;
        }
    }
}
