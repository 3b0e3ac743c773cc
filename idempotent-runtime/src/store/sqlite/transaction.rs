//! Transactions of SQLite.
//!
//! `BEGIN IMMEDIATE`; the record, still running, by which the key is taken; the savepoint; the
//! handler's statements; the record completed; `COMMIT`. Nobody else sees the running record, and
//! when the database gives up the transaction it is gone, which is how that is noticed. A handler
//! cannot commit: SQLite asks before it does, and is told no.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Sqlite, SqliteConnection};
use tokio::sync::OwnedMutexGuard;

use super::NAME;
use super::failure::store_error;
use super::operations::TryClaim;
use super::readers::Readers;
use super::row::{Row, Time};
use super::session::{Place, Session as Connection};
use super::statements::Statements;
use super::writer::{Failure, Handlers, Operation, Shared};
use crate::record::StoredResponse;
use crate::store::sql::transaction;
use crate::store::transaction::{
    Begin, Begun, Committed, IS_WHOLE, Session, Settled, TransactionRequest, UNDO,
};
use crate::store::{Claim, ClaimRequest, StoreError, StoreErrorKind};

/// Begins transactions on a connection of their own.
pub(super) struct Transactions {
    pub(super) options: SqliteConnectOptions,
    pub(super) statements: Statements,
    pub(super) readers: Arc<Readers>,
    pub(super) shared: Arc<Shared>,
}

/// Dropped, it closes its connection, which rolls it back.
struct Open {
    session: Connection,
    /// Given up last.
    turn: OwnedMutexGuard<Handlers>,
    request: Option<TransactionRequest>,
    shared: Arc<Shared>,
}

impl Transactions {
    async fn open(&self) -> Result<Connection, sqlx::Error> {
        let mut session = Connection::open(&self.options, &self.statements).await?;
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

    /// What is there and will not change: for that nobody has to wait until it is his turn.
    async fn replay(&self, request: &TransactionRequest) -> Result<Option<Settled>, StoreError> {
        if !self.shared.is_readable.load(Ordering::Acquire) {
            return Ok(None);
        }
        let read = self.statements.read.clone();
        let columns = self.readers.look_up(read, &request.owner.key).await;
        let Some(columns) = columns.map_err(store_error)? else {
            return Ok(None);
        };
        let Some(row) = Row::decode(columns, Time::now())? else {
            return Ok(None);
        };
        Ok(match row.answer(&claim_of(request))? {
            Claim::Completed(response) => Some(Settled::Completed(response)),
            Claim::Mismatch => Some(Settled::Mismatch),
            _ => None,
        })
    }
}

/// Without a lease: should the handler commit by itself, what others see is that it is unknown how
/// that ends.
fn claim_of(request: &TransactionRequest) -> ClaimRequest {
    ClaimRequest {
        owner: request.owner,
        fingerprint: request.fingerprint,
        lease: Duration::ZERO,
        ttl: request.ttl,
        take_over: None,
    }
}

#[async_trait]
impl Begin<SqliteConnection> for Transactions {
    async fn begin(
        &self,
        request: Option<&TransactionRequest>,
    ) -> Result<Begun<SqliteConnection>, StoreError> {
        if let Some(request) = request
            && let Some(settled) = self.replay(request).await?
        {
            return Ok(Begun::Settled(settled));
        }
        let mut turn = Arc::clone(&self.shared.turn).lock_owned().await;
        let mut session = match turn.0.take() {
            Some(session) => session,
            None => self.open().await.map_err(store_error)?,
        };
        session.begin_nestable().await.map_err(store_error)?;
        let mut open = Open {
            session,
            turn,
            request: request.copied(),
            shared: Arc::clone(&self.shared),
        };
        if let Some(request) = request {
            let claim = open.claim(request).await?;
            if !matches!(claim, Claim::Acquired { .. }) {
                Box::new(open).roll_back().await;
                return Ok(Begun::Settled(settled(claim)?));
            }
        }
        let savepoint = "SAVEPOINT idempotent_handler";
        open.execute(savepoint).await.map_err(store_error)?;
        Ok(Begun::Open(Box::new(open)))
    }
}

fn settled(claim: Claim) -> Result<Settled, StoreError> {
    Ok(match claim {
        Claim::Completed(response) => Settled::Completed(response),
        Claim::InFlight { lease_left } => Settled::InFlight(Some(lease_left)),
        Claim::Abandoned { .. } => Settled::Abandoned,
        Claim::Mismatch => Settled::Mismatch,
        Claim::Acquired { .. } => {
            return Err(StoreError::new(NAME, StoreErrorKind::Rejected));
        }
    })
}

impl Open {
    async fn claim(&mut self, request: &TransactionRequest) -> Result<Claim, StoreError> {
        let claimed = TryClaim(claim_of(request)).run(&mut self.session).await;
        match claimed {
            Ok((claim, _)) => Ok(claim),
            Err(Failure::OfOperation(error)) => Err(error),
            Err(Failure::OfTransaction(error)) => Err(store_error(error)),
        }
    }

    /// `false` when the record is gone, and the transaction with it.
    async fn record(
        &mut self,
        request: &TransactionRequest,
        response: &StoredResponse,
    ) -> Result<bool, StoreError> {
        let TransactionRequest { owner, ttl, .. } = request;
        let record = sqlx::query(self.session.statements.record.clone())
            .bind(owner.key.as_bytes().as_slice())
            .bind(owner.token.as_bytes().as_slice())
            .bind(Time::now().after(*ttl).0)
            .bind(response.status)
            .bind(response.encode());
        let recorded = record.execute(&mut self.session.connection).await;
        Ok(recorded.map_err(store_error)?.rows_affected() > 0)
    }

    async fn execute(&mut self, statement: &'static str) -> sqlx::Result<()> {
        let executed = sqlx::raw_sql(statement).execute(&mut self.session.connection);
        executed.await.map(drop)
    }

    /// Keeps the connection for the next transaction.
    fn give_back(self) {
        let Self {
            session, mut turn, ..
        } = self;
        turn.0 = Some(session);
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

    async fn undo(&mut self) -> Result<(), StoreError> {
        self.execute(UNDO).await.map_err(store_error)
    }

    async fn commit(
        mut self: Box<Self>,
        response: &StoredResponse,
    ) -> Result<Committed, StoreError> {
        let is_whole = match self.request {
            Some(request) => self.record(&request, response).await?,
            None => self.execute(IS_WHOLE).await.is_ok(),
        };
        if !is_whole {
            self.roll_back().await;
            return Ok(Committed::Lost);
        }
        self.session.commit_nestable().await.map_err(store_error)?;
        if let Some(request) = &self.request {
            self.shared.waiters.wake(&request.owner.key);
        }
        self.give_back();
        Ok(Committed::Stored)
    }

    async fn roll_back(mut self: Box<Self>) {
        let connection = &mut self.session.connection;
        if transaction::roll_back::<Sqlite>(connection).await.is_ok() {
            self.give_back();
        }
    }
}
