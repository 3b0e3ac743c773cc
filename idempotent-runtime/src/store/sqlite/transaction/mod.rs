//! Transactions of SQLite.
//!
//! `BEGIN IMMEDIATE`; the record, still running, by which the key is taken; the savepoint; the
//! handler's statements; the record completed; `COMMIT`. No other connection sees the running record,
//! and when the database gives up the transaction it is gone, which is how that is noticed. A handler
//! cannot commit: SQLite asks before it does, and is told no.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx::SqliteConnection;
use tokio::time::sleep;

use self::open::Open;
use super::database::{Database, PAUSE, Purpose};
use super::error::{NAME, is_busy, store_error};
use super::readers::Readers;
use super::row::alive;
use super::session::{Location, WriteSession};
use super::shared::SharedState;
use super::statements::Statements;
use super::time::Time;
use crate::store::sql::corrupt;
use crate::store::transaction::{Begin, Session, Settled, TransactionRequest, settled};
use crate::store::{Claim, StoreError};

mod open;

/// Begins transactions on a connection of their own.
pub(super) struct SqliteTransactions {
    pub(super) database: Arc<Database>,
    pub(super) statements: Statements,
    pub(super) readers: Arc<Readers>,
    pub(super) shared: Arc<SharedState>,
}

impl SqliteTransactions {
    async fn open(&self) -> sqlx::Result<WriteSession> {
        let mut session =
            WriteSession::open(&self.database, Purpose::Lend, &self.statements).await?;
        match session.location {
            Location::File => {
                session.lend().await?;
                Ok(session)
            }
            Location::Memory => {
                let cause = "a database in memory has no transactions beside others";
                Err(sqlx::Error::Configuration(cause.into()))
            }
        }
    }

    /// What is there and will not change: for that no request has to wait until it is its turn.
    async fn replay(&self, request: &TransactionRequest) -> Result<Option<Settled>, StoreError> {
        if !self.database.is_readable() {
            return Ok(None);
        }
        let (read, now) = (self.statements.read.clone(), Time::now());
        let columns = self.readers.look_up(read, &request.owner.key).await;
        let Some(row) = alive(columns.map_err(store_error)?, now)? else {
            return Ok(None);
        };
        let replayed = row.replay(&request.fingerprint, request.owner.token);
        Ok(replayed
            .map_err(|cause| corrupt(NAME, cause))?
            .and_then(settled))
    }

    async fn begin_in_turn(&self) -> Result<Open, StoreError> {
        let patience = self.database.patience().await.map_err(store_error)?;
        let mut handlers = Arc::clone(&self.shared.handlers).lock_owned().await;
        let turn = Arc::clone(&self.shared.turn).lock_owned().await;
        let used = handlers.0.take();
        let mut session = match used.filter(|it| it.is_there(&self.database).is_ok()) {
            Some(session) => session,
            None => self.open().await.map_err(store_error)?,
        };
        let started = Instant::now();
        loop {
            match session.begin_nestable().await {
                Ok(()) => break,
                Err(error) if is_busy(&error) && started.elapsed() < patience => {
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(store_error(session.reason(error, &self.database))),
            }
        }
        session.is_there(&self.database).map_err(store_error)?;
        session.check().await.map_err(store_error)??;
        Ok(Open {
            session,
            _turn: turn,
            handlers,
            request: None,
            database: Arc::clone(&self.database),
            shared: Arc::clone(&self.shared),
        })
    }
}

#[async_trait]
impl Begin<SqliteConnection> for SqliteTransactions {
    async fn begin(
        &self,
        request: Option<&TransactionRequest>,
        // Its connection is in this process, and ends with it.
        _: Duration,
    ) -> Result<Claim<Box<dyn Session<SqliteConnection>>>, StoreError> {
        if let Some(request) = request
            && let Some(settled) = self.replay(request).await?
        {
            return Ok(settled.map(|never| match never {}));
        }
        let mut open = self.begin_in_turn().await?;
        if let Some(request) = request {
            for key in request.keys() {
                let claim = open.claim(request, key).await?;
                if let Some(settled) = settled(claim) {
                    Box::new(open).roll_back().await;
                    return Ok(settled.map(|never| match never {}));
                }
            }
            open.request = Some(request.clone());
        }
        let savepoint = "SAVEPOINT idempotent_handler";
        open.execute(savepoint).await.map_err(store_error)?;
        Ok(Claim::Acquired(Box::new(open)))
    }
}
