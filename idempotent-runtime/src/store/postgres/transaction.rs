//! Transactions of PostgreSQL.
//!
//! `BEGIN`, the key's lock and the savepoint in one message; the look for a record; the handler's
//! statements; what the handler has changed in its session put back; the record; `COMMIT`. So an
//! idempotent transaction has three round trips more than the same one without. The look is a statement of
//! its own so that it is prepared: planning it each time would cost the server more than half of what it
//! does for an insert. So is putting the session back: the record is written by whoever the session was at
//! the beginning, and names cannot even be looked up by every role.

use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Row};
use tokio::runtime::Handle;
use tokio::time::{Duration, Instant, timeout};

use super::error::{
    code, is_of_connection, is_unique_violation, is_without_savepoint, store_error,
};
use super::operation::text;
use super::records::Records;
use super::statements::InTransaction;
use super::{NAME, micros, rows, statement};
use crate::key::RecordKey;
use crate::record::StoredResponse;
use crate::store::sql::{Loan, RETURN_LIMIT, transaction};
use crate::store::transaction::{
    Begin, Begun, Committed, Session, Settled, TransactionRequest, UNDO,
};
use crate::store::{StoreError, StoreErrorKind};

/// From when on a beginning that is given up makes the pool's idle connections suspect. A client that goes
/// away is quicker as a rule, and says nothing about them.
const SILENCE: Duration = Duration::from_millis(250);

/// Begins transactions on the application's pool.
pub(super) struct Transactions(pub(super) Arc<Records>);

struct Open {
    pool: PgPool,
    connection: Loan<Postgres>,
    record: Option<ToRecord>,
}

/// What will be written when the handler is done.
struct ToRecord {
    request: TransactionRequest,
    sql: InTransaction,
    /// For each key, whether there was an expired record.
    keys: Vec<(RecordKey, bool)>,
    /// When the transaction began, by the server: what tells it from one that the handler has begun
    /// after ending this one.
    begun_us: i64,
    /// What the session was set to then.
    session: Vec<String>,
}

/// Why a transaction was not begun.
struct NotBegun {
    error: StoreError,
    /// Whether that can be another one on another connection.
    is_of_session: bool,
}

impl NotBegun {
    /// There is no point in running the handler.
    fn read_only() -> Self {
        let error = StoreError::new(NAME, StoreErrorKind::Refused);
        Self {
            error: error.with_source("the transaction is read-only"),
            is_of_session: true,
        }
    }
}

impl From<sqlx::Error> for NotBegun {
    fn from(error: sqlx::Error) -> Self {
        let is_pools = matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed);
        // insufficient_privilege: what used the connection before has left it with another role
        let is_of_session =
            !is_pools && (is_of_connection(&error) || code(&error).as_deref() == Some("42501"));
        Self {
            error: store_error(error).not_executed(),
            is_of_session,
        }
    }
}

impl From<StoreError> for NotBegun {
    fn from(error: StoreError) -> Self {
        Self {
            error,
            is_of_session: false,
        }
    }
}

#[async_trait]
impl Begin<PgConnection> for Transactions {
    async fn begin(
        &self,
        request: Option<&TransactionRequest>,
    ) -> Result<Begun<PgConnection>, StoreError> {
        let sql = match request {
            Some(request) => Some((request, self.0.statements().await?.transaction.clone())),
            None => None,
        };
        let pool = self.0.connector().pool();
        match begin(&self.0, sql.clone()).await {
            Err(failed) if failed.is_of_session => {
                tracing::debug!(
                    error = &failed.error as &dyn std::error::Error,
                    "a pooled connection was of no use, trying a fresh one"
                );
                close_idle(pool);
                let begun = begin(&self.0, sql).await;
                begun.map_err(|failed| failed.error)
            }
            begun => begun.map_err(|failed| failed.error),
        }
    }
}

async fn begin(
    records: &Records,
    request: Option<(&TransactionRequest, InTransaction)>,
) -> Result<Begun<PgConnection>, NotBegun> {
    let pool = records.connector().pool();
    let unanswered = Unanswered::of(pool);
    let mut connection = Loan::new(pool.acquire().await?);
    let Some((request, sql)) = request else {
        transaction::begin::<Postgres>(&mut connection, "BEGIN").await?;
        unanswered.answered();
        let record = None;
        return Ok(Begun::Open(Box::new(Open {
            pool: pool.clone(),
            connection,
            record,
        })));
    };
    let keys = std::iter::once(&request.owner.key).chain(request.aliases.iter());
    let locks: String = keys
        .clone()
        .map(|key| {
            sql.lock
                .replace("{lock}", &lock(&sql.name, key).to_string())
        })
        .collect();
    let begin = AssertSqlSafe(sql.begin.replace("{locks}", &locks));
    transaction::begin::<Postgres>(&mut connection, begin).await?;
    let mut record = ToRecord {
        request: request.clone(),
        sql,
        keys: Vec::new(),
        begun_us: 0,
        session: Vec::new(),
    };
    for key in keys {
        let entered = statement(&record.sql.enter)
            .bind(&key.as_bytes()[..])
            .fetch_one(&mut *connection)
            .await?;
        let (is_ours, is_read_only) = (
            entered.try_get("is_ours")?,
            entered.try_get("is_read_only")?,
        );
        record.begun_us = entered.try_get("begun_us")?;
        record.session = entered.try_get("session")?;
        let looked = if entered.try_get("is_strict")? {
            let looking = || statement(&record.sql.look).bind(&key.as_bytes()[..]);
            rows::one(records.lanes()?.work.rows(None, looking).await?)?
        } else {
            entered
        };
        if let Some(settled) = settled(is_ours, &looked, request)? {
            unanswered.answered();
            // Nobody needs to wait for it: it is sent when the connection is back in the pool.
            transaction::start_to_roll_back::<Postgres>(&mut connection);
            connection.give_back();
            return Ok(Begun::Settled(settled));
        }
        if is_read_only {
            return Err(NotBegun::read_only());
        }
        // One that counts has been dealt with.
        let expired: Option<bool> = looked.try_get("is_expired")?;
        record.keys.push((*key, expired.is_some()));
    }
    unanswered.answered();
    Ok(Begun::Open(Box::new(Open {
        pool: pool.clone(),
        connection,
        record: Some(record),
    })))
}

/// One lock for each key of each table. Advisory locks are numbers of 64 bits, so that two keys
/// could share one; the later of the two would be told that it is in flight.
fn lock(table: &str, key: &RecordKey) -> i64 {
    let table = Sha256::digest(table);
    let bytes = key.as_bytes().iter().zip(table).take(8);
    bytes.fold(0, |lock, (key, table)| lock << 8 | i64::from(*key ^ table))
}

/// A record counts whoever has the lock: who only looks at the record has it for a moment.
fn settled(
    is_ours: bool,
    looked: &PgRow,
    request: &TransactionRequest,
) -> Result<Option<Settled>, StoreError> {
    if let Some(settled) = rows::settled(looked, &request.fingerprint)? {
        return Ok(Some(settled));
    }
    Ok((!is_ours).then_some(Settled::InFlight(None)))
}

/// A beginning on its way. Given up after a while, the peer may be gone without a word: then it is gone for
/// all idle connections, which would have a time-out each.
struct Unanswered<'a> {
    pool: &'a PgPool,
    since: Instant,
    is_answered: bool,
}

impl<'a> Unanswered<'a> {
    fn of(pool: &'a PgPool) -> Self {
        Self {
            pool,
            since: Instant::now(),
            is_answered: false,
        }
    }

    fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.is_answered && self.since.elapsed() >= SILENCE {
            close_idle(self.pool);
        }
    }
}

/// What is in use stays.
fn close_idle(pool: &PgPool) {
    if Handle::try_current().is_err() {
        return;
    }
    for _ in 0..pool.options().get_max_connections() {
        match pool.try_acquire() {
            Some(connection) => drop(connection.detach()),
            None => return,
        }
    }
}

#[async_trait]
impl Session<PgConnection> for Open {
    fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    async fn is_failed(&mut self) -> bool {
        let anything = sqlx::raw_sql("SELECT 1").execute(&mut *self.connection);
        anything.await.is_err()
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        let undone = match sqlx::raw_sql(UNDO).execute(&mut *self.connection).await {
            // The handler has ended its transaction by itself. What it has committed cannot be taken
            // back, so that its answer must be stored.
            Err(error) if is_without_savepoint(&error) => {
                let rest = sqlx::raw_sql("ROLLBACK").execute(&mut *self.connection);
                rest.await
            }
            undone => undone,
        };
        undone.map(drop).map_err(store_error)
    }

    async fn commit(
        mut self: Box<Self>,
        response: &StoredResponse,
    ) -> Result<Committed, StoreError> {
        let (is_whole, is_as_it_was) = match &self.record {
            Some(record) => {
                let written = record.write(&mut self.connection, response).await;
                written.map_err(|error| self.failed(error))?
            }
            // A transaction that takes no more statements is rolled back by COMMIT, without an error.
            None => (!self.is_failed().await, true),
        };
        if !is_whole {
            self.roll_back().await;
            return Ok(Committed::Lost);
        }
        let committed = transaction::commit::<Postgres>(&mut self.connection).await;
        committed.map_err(|error| self.failed(error))?;
        if is_as_it_was {
            self.connection.give_back();
        } else {
            self.give_back_if_same();
        }
        Ok(Committed::Stored)
    }

    async fn roll_back(mut self: Box<Self>) {
        // A connection on which that fails is closed, and then the server does it.
        let rolled_back = transaction::roll_back::<Postgres>(&mut self.connection).await;
        if rolled_back.is_ok() {
            self.give_back_if_same();
        }
    }
}

impl Open {
    /// What is wrong with this connection can be wrong with all that are idle.
    fn failed(&self, error: sqlx::Error) -> StoreError {
        if is_of_connection(&error) {
            close_idle(&self.pool);
        }
        store_error(error)
    }

    /// Most changes end with the transaction. A connection that is left with others is closed.
    fn give_back_if_same(self) {
        let (mut connection, Some(record)) = (self.connection, self.record) else {
            return;
        };
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let asking = statement(&record.sql.is_same)
                .bind(&record.session)
                .fetch_one(&mut *connection);
            let is_same = match timeout(RETURN_LIMIT, asking).await {
                Ok(Ok(row)) => row.try_get("is_same").unwrap_or(false),
                Ok(Err(_)) | Err(_) => false,
            };
            if is_same {
                connection.give_back();
            } else {
                tracing::warn!(record = %record.request.owner.key,
                    "a handler has changed the settings of its session: the connection is closed");
            }
        });
    }
}

impl ToRecord {
    /// Puts back what the handler has changed in its session, and says whether that was nothing.
    async fn restore(&self, connection: &mut PgConnection) -> sqlx::Result<bool> {
        let row = statement(&self.sql.restore)
            .bind(&self.session)
            .bind(self.begun_us)
            .fetch_one(connection)
            .await?;
        let is_changed: bool = row.try_get("is_changed")?;
        let begun_us: i64 = row.try_get("begun_us")?;
        let is_ours = begun_us == self.begun_us;
        if !is_ours {
            tracing::error!(record = %self.request.owner.key,
                "a handler has ended its transaction by itself: its writes and its record were not committed together");
        }
        Ok(is_ours && !is_changed)
    }

    /// Says whether the record is written, which it is not when somebody else's is there; and whether the
    /// session is as it was.
    async fn write(
        &self,
        connection: &mut PgConnection,
        response: &StoredResponse,
    ) -> sqlx::Result<(bool, bool)> {
        let is_as_it_was = self.restore(connection).await?;
        let TransactionRequest {
            owner,
            operation,
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
                .fetch_optional(&mut *connection)
                .await;
            match written {
                Ok(Some(_)) => {}
                Ok(None) => return Ok((false, is_as_it_was)),
                Err(error) if is_unique_violation(&error) => return Ok((false, is_as_it_was)),
                Err(error) => return Err(error),
            }
        }
        Ok((true, is_as_it_was))
    }
}
