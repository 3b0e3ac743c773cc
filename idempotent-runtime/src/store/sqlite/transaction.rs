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
use tokio::sync::OwnedMutexGuard;
use tokio::time::sleep;

use super::NAME;
use super::claims::TryClaim;
use super::database::{Database, PAUSE, Purpose};
use super::failure::{commit_error, is_busy, store_error};
use super::readers::Readers;
use super::row::{Row, Time};
use super::session::{Place, Session as Connection};
use super::shared::{Handlers, Shared};
use super::statements::Statements;
use super::writer::{Failure, Operation};
use crate::key::RecordKey;
use crate::record::{Owner, StoredResponse};
use crate::store::transaction::{
    Begin, Committed, IS_WHOLE, Session, Settled, TransactionRequest, UNDO,
};
use crate::store::{Claim, ClaimRequest, StoreError, StoreErrorKind};

/// Begins transactions on a connection of their own.
pub(super) struct Transactions {
    pub(super) database: Arc<Database>,
    pub(super) statements: Statements,
    pub(super) readers: Arc<Readers>,
    pub(super) shared: Arc<Shared>,
}

/// Dropped, it interrupts what its handler has left running and closes its connection, which rolls it back.
struct Open {
    session: Connection,
    /// Both are given up after the connection: at once, whatever SQLite is still busy with.
    _turn: OwnedMutexGuard<()>,
    handlers: OwnedMutexGuard<Handlers>,
    request: Option<TransactionRequest>,
    database: Arc<Database>,
    shared: Arc<Shared>,
}

impl Transactions {
    async fn open(&self) -> sqlx::Result<Connection> {
        let mut session = Connection::open(&self.database, Purpose::Lend, &self.statements).await?;
        match session.place {
            Place::File => {
                session.lend().await?;
                Ok(session)
            }
            Place::Memory => {
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
        let Some(columns) = columns.map_err(store_error)? else {
            return Ok(None);
        };
        let Some(row) = Row::decode(columns, now)? else {
            return Ok(None);
        };
        Ok(
            match row.answer(&request.fingerprint, request.owner.token)? {
                Claim::Completed(response) => Some(Claim::Completed(response)),
                Claim::Mismatch => Some(Claim::Mismatch),
                _ => None,
            },
        )
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
impl Begin<SqliteConnection> for Transactions {
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
            for key in keys(request) {
                match open.claim(request, key).await? {
                    Claim::Acquired(_) => {}
                    settled => {
                        Box::new(open).roll_back().await;
                        return Ok(settled.and_then(|_| Claim::Mismatch));
                    }
                }
            }
            open.request = Some(request.clone());
        }
        let savepoint = "SAVEPOINT idempotent_handler";
        open.execute(savepoint).await.map_err(store_error)?;
        Ok(Claim::Acquired(Box::new(open)))
    }
}

/// All keys of the request, in the order in which they are taken.
fn keys(request: &TransactionRequest) -> impl Iterator<Item = RecordKey> {
    std::iter::once(request.owner.key).chain(request.aliases.iter().copied())
}

impl Open {
    async fn claim(
        &mut self,
        request: &TransactionRequest,
        key: RecordKey,
    ) -> Result<Claim, StoreError> {
        let token = request.owner.token;
        let claim = ClaimRequest {
            owner: Owner { key, token },
            fingerprint: request.fingerprint,
            operation: &request.operation,
            label: None,
            // Should the handler commit by itself, what others see is that it is unknown how that ends.
            lease: Duration::ZERO,
            retention: request.ttl,
            take_over: None,
        };
        let claim = TryClaim::new(&claim, request.ttl);
        match claim.run(&mut self.session).await {
            Ok((claim, _)) => Ok(claim),
            Err(Failure::OfOperation(error)) => Err(error),
            Err(Failure::OfTransaction(error)) => Err(store_error(error)),
        }
    }

    /// `false` when a record is gone, and the transaction with it.
    async fn record(
        &mut self,
        request: &TransactionRequest,
        response: &StoredResponse,
    ) -> Result<bool, StoreError> {
        let encoded = response.encode();
        for key in keys(request) {
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

    async fn execute(&mut self, statement: &'static str) -> sqlx::Result<()> {
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
    async fn is_ended(&mut self) -> bool {
        false
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        self.execute(UNDO).await.map_err(store_error)
    }

    async fn commit(
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
        for key in request.iter().flat_map(keys) {
            self.shared.waiters.wake(&key);
        }
        self.give_back().await;
        Ok(Committed::Stored)
    }

    async fn roll_back(mut self: Box<Self>) {
        if self.session.roll_back_nestable().await.is_ok() {
            self.give_back().await;
        }
    }
}
