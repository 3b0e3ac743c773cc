//! Transactions of MySQL and MariaDB.
//!
//! A look at the record; the key's lock; a look behind it; `START TRANSACTION`; the record, still running,
//! by which the key is taken; the savepoint; the handler's statements; the record completed; `COMMIT`.
//! Nobody else sees the running record. When the server rolls the transaction back, as it does with one of
//! two that lock each other out, the record is gone, which is how that is noticed.
//!
//! `autocommit` is off meanwhile: what a handler writes after it was rolled back, and has not noticed,
//! is otherwise committed at once.
//!
//! The connection is the application's. A handler may leave its session changed: then it is closed and
//! not given back. It is compared in the round trips that there are anyway, which costs less than a new
//! connection for each transaction; sqlx has no `COM_RESET_CONNECTION`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection};
use tokio::time::timeout;

use self::connection::Borrowed;
use super::failure::{self, Failure};
use super::row::{self, Row, column};
use super::{MySqlStore, NAME};
use crate::key::RecordKey;
use crate::record::{Owner, StoredResponse};
use crate::store::sql::{RETURN_LIMIT, transaction};
use crate::store::transaction::{
    Begin, Begun, Committed, IS_WHOLE, Session, Settled, TransactionRequest, UNDO,
};
use crate::store::{Claim, ClaimRequest, StoreError, StoreErrorKind};

mod connection;

/// The explicit mode is the transaction's own, whatever the server's default is.
const BEGIN: &str =
    "SET @idempotent_autocommit = @@autocommit, autocommit = 0; START TRANSACTION READ WRITE";
/// Without a record nothing needs to be written, so a handler that only reads may do so on a read-only
/// server.
const BEGIN_UNPROTECTED: &str =
    "SET @idempotent_autocommit = @@autocommit, autocommit = 0; START TRANSACTION";

/// The locks of a request that runs nothing.
const UNLOCK: &str = "DO RELEASE_ALL_LOCKS()";

/// How long a record that a handler has committed by itself lives at least while it is not completed.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

struct Open {
    connection: Borrowed,
    request: Option<TransactionRequest>,
    before: SessionState,
    store: Arc<MySqlStore>,
}

/// What the session was before the handler.
struct SessionState {
    /// `None` is no role.
    role: Option<String>,
    max_packet_bytes: usize,
    state: Vec<u8>,
}

/// Without a lease: should the handler commit by itself, as it does by every `CREATE TABLE`, what
/// others see is that it is unknown how that ends.
fn claim_of(request: &TransactionRequest, key: RecordKey) -> ClaimRequest<'_> {
    ClaimRequest {
        owner: owner_of(request, key),
        fingerprint: request.fingerprint,
        operation: &request.operation,
        lease: Duration::ZERO,
        retention: request.ttl.max(RETENTION),
        take_over: None,
    }
}

fn owner_of(request: &TransactionRequest, key: RecordKey) -> Owner {
    let token = request.owner.token;
    Owner { key, token }
}

fn keys_of(request: &TransactionRequest) -> impl Iterator<Item = RecordKey> {
    let aliases = request.aliases.iter().copied();
    std::iter::once(request.owner.key).chain(aliases)
}

/// What the record says, when it is there and alive.
enum Seen {
    Settled(Settled),
    Expired,
    Nothing,
}

#[async_trait]
impl Begin<MySqlConnection> for MySqlStore {
    async fn begin(
        &self,
        request: Option<&TransactionRequest>,
    ) -> Result<Begun<MySqlConnection>, StoreError> {
        // Each that was idle can be of no use: closed by the server, gone without a word, demoted. Nothing
        // has happened then, and the last is a fresh one.
        loop {
            let mut connection = Borrowed::from(&self.pool).await?;
            let begun = match request {
                Some(request) => self.begin_with_record(&mut connection, request).await,
                None => self.begin_unprotected(&mut connection).await.map(Ok),
            };
            match begun {
                Ok(Ok(before)) => {
                    return Ok(Begun::Open(Box::new(Open {
                        connection,
                        request: request.cloned(),
                        before,
                        store: Arc::new(self.clone()),
                    })));
                }
                Ok(Err(settled)) => {
                    connection.give_back();
                    return Ok(Begun::Settled(settled));
                }
                Err(failure) if failure.may_be_repeated() && connection.was_idle() => {
                    tracing::debug!(
                        error = &failure.error as &dyn std::error::Error,
                        "an idle connection was of no use, trying another one"
                    );
                }
                // What was begun and not committed has not happened.
                Err(failure) => return Err(failure.error.not_executed()),
            }
        }
    }
}

impl MySqlStore {
    async fn begin_unprotected(&self, connection: &mut Borrowed) -> Result<SessionState, Failure> {
        let begun = connection.first(async |connection| {
            let begun = transaction::begin::<MySql>(connection, BEGIN_UNPROTECTED).await;
            begun.map_err(|error| self.failure(error))
        });
        begun.await?;
        self.prepare(connection).await
    }

    async fn begin_with_record(
        &self,
        connection: &mut Borrowed,
        request: &TransactionRequest,
    ) -> Result<Result<SessionState, Settled>, Failure> {
        // Before the lock: who only looks takes none.
        let key = request.owner.key;
        let seen = connection.first(async |connection| self.look(connection, request, key).await);
        if let Seen::Settled(settled) = seen.await? {
            return Ok(Err(settled));
        }
        let mut claims = Vec::with_capacity(1 + request.aliases.len());
        for key in keys_of(request) {
            match self.enter(connection, request, key).await? {
                Seen::Settled(settled) => {
                    self.execute(connection, UNLOCK).await?;
                    return Ok(Err(settled));
                }
                seen => claims.push((claim_of(request, key), seen)),
            }
        }
        let begun = transaction::begin::<MySql>(connection, BEGIN).await;
        begun.map_err(|error| self.failure(error))?;
        for (claim, seen) in &claims {
            if !self.insert(connection, claim, seen).await? {
                // Somebody's claim, who has asked for no lock.
                let rolled_back = transaction::roll_back::<MySql>(connection).await;
                rolled_back.map_err(|error| self.failure(error))?;
                self.restore(connection).await?;
                return Ok(Err(Settled::InFlight(None)));
            }
        }
        self.prepare(connection).await.map(Ok)
    }

    /// Locks one of the request's records, and looks at it.
    async fn enter(
        &self,
        connection: &mut MySqlConnection,
        request: &TransactionRequest,
        key: RecordKey,
    ) -> Result<Seen, Failure> {
        let enter = self.statements.enter(self.place.lock_name(Some(&key)));
        let row = enter.fetch_one(&mut *connection).await;
        let row = row.map_err(|error| self.failure(error))?;
        // NULL is an error of the server's, such as too many locks.
        if column::<Option<i64>>(&row, 0)? != Some(1) {
            return Ok(Seen::Settled(Settled::InFlight(None)));
        }
        if column::<i64>(&row, 1)? == 0 {
            // The look before has begun a transaction, of a snapshot that is too old by now.
            self.execute(connection, "COMMIT").await?;
        }
        // Behind the lock: what was committed before it is there now.
        self.look(connection, request, key).await
    }

    async fn look(
        &self,
        connection: &mut MySqlConnection,
        request: &TransactionRequest,
        key: RecordKey,
    ) -> Result<Seen, Failure> {
        let read = self.statements.read(&key);
        let Some(row) = self.read(connection, read).await? else {
            return Ok(Seen::Nothing);
        };
        let Some(row) = Row::read(&row)? else {
            return Ok(Seen::Expired);
        };
        Ok(Seen::Settled(match row.answer(&claim_of(request, key)) {
            Some(Claim::Completed(response)) => Settled::Completed(response),
            Some(Claim::InFlight { lease_left }) => Settled::InFlight(Some(lease_left)),
            Some(Claim::Mismatch) => Settled::Mismatch,
            Some(Claim::Abandoned { .. } | Claim::Acquired { .. }) | None => Settled::Abandoned,
        }))
    }

    /// Takes the key; `false` when somebody else has the record.
    async fn insert(
        &self,
        connection: &mut MySqlConnection,
        claim: &ClaimRequest<'_>,
        seen: &Seen,
    ) -> Result<bool, Failure> {
        let statement = match seen {
            Seen::Expired => self.statements.reclaim(claim),
            Seen::Nothing | Seen::Settled(_) => self.statements.insert(claim),
        };
        match statement.execute(connection).await {
            Ok(done) => Ok(done.rows_affected() > 0),
            Err(error) if failure::is_duplicate(&error) || failure::is_in_the_way(&error) => {
                Ok(false)
            }
            Err(error) => Err(self.failure(error)),
        }
    }

    /// Sets the savepoint, and says what the session is like.
    async fn prepare(&self, connection: &mut MySqlConnection) -> Result<SessionState, Failure> {
        let prepare = sqlx::raw_sql(self.statements.prepare.clone());
        let row = prepare.fetch_all(connection).await;
        let row = row.map_err(|error| self.failure(error))?;
        let row = only(&row)?;
        let role = row::text(row, 0)?;
        Ok(SessionState {
            role: (!role.is_empty() && *role != *"NONE").then(|| role.as_ref().to_owned()),
            max_packet_bytes: usize::try_from(column::<u64>(row, 1)?).unwrap_or(usize::MAX),
            state: column::<&[u8]>(row, 2)?.to_vec(),
        })
    }

    /// Takes back what this store has changed, frees the locks, and says what the session is like now.
    async fn restore(&self, connection: &mut MySqlConnection) -> Result<Vec<u8>, Failure> {
        let leave = sqlx::raw_sql(self.statements.leave.clone());
        let rows = leave.fetch_all(connection).await;
        let rows = rows.map_err(|error| self.failure(error))?;
        Ok(column::<&[u8]>(only(&rows)?, 0)?.to_vec())
    }

    async fn execute(
        &self,
        connection: &mut MySqlConnection,
        statement: &'static str,
    ) -> Result<(), Failure> {
        let executed = sqlx::raw_sql(statement).execute(connection).await;
        executed.map(drop).map_err(|error| self.failure(error))
    }

    /// Gives a connection back whose session is what it was; any other is closed, and so is one on which
    /// this fails.
    async fn leave(&self, mut connection: Borrowed, before: &SessionState) {
        match self.restore(&mut connection).await {
            Ok(state) if state == before.state => connection.give_back(),
            Ok(_) => {
                tracing::debug!("a handler has left its session changed, its connection is closed");
            }
            Err(failure) => tracing::debug!(
                error = &failure.error as &dyn std::error::Error,
                "a connection was of no use after its transaction"
            ),
        }
    }
}

fn only(rows: &[MySqlRow]) -> Result<&MySqlRow, StoreError> {
    let missing = || StoreError::new(NAME, StoreErrorKind::Unavailable);
    rows.first().ok_or_else(missing)
}

#[async_trait]
impl Session<MySqlConnection> for Open {
    fn connection(&mut self) -> &mut MySqlConnection {
        &mut self.connection
    }

    async fn is_failed(&mut self) -> bool {
        false
    }

    async fn undo(&mut self) -> Result<(), StoreError> {
        let undone = match sqlx::raw_sql(UNDO).execute(&mut *self.connection).await {
            // The transaction has ended. If the server has rolled it back, the record is gone. If the
            // handler has committed it, as by `CREATE TABLE`, the record is there, and must be
            // completed.
            Err(error) if failure::is_without_savepoint(&error) => {
                let rest = sqlx::raw_sql("ROLLBACK").execute(&mut *self.connection);
                rest.await
            }
            undone => undone,
        };
        let failed = |error| self.store.failure(error).error.not_executed();
        undone.map(drop).map_err(failed)
    }

    async fn commit(
        mut self: Box<Self>,
        response: &StoredResponse,
    ) -> Result<Committed, StoreError> {
        let is_whole = match self.request.clone() {
            // What is not committed has not happened.
            Some(request) => self
                .record(&request, response)
                .await
                .map_err(StoreError::not_executed)?,
            None => self.is_whole().await,
        };
        if !is_whole {
            self.roll_back().await;
            return Ok(Committed::Lost);
        }
        let committed = transaction::commit::<MySql>(&mut self.connection).await;
        committed.map_err(|error| self.store.failure(error).error)?;
        // Nobody waits for what is left to do.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(timeout(RETURN_LIMIT, self.leave()));
        }
        Ok(Committed::Stored)
    }

    async fn roll_back(mut self: Box<Self>) {
        let rolled_back = transaction::roll_back::<MySql>(&mut self.connection).await;
        if rolled_back.is_ok() {
            self.leave().await;
        }
    }
}

impl Open {
    /// `false` when the record is gone, and the transaction with it.
    async fn record(
        &mut self,
        request: &TransactionRequest,
        response: &StoredResponse,
    ) -> Result<bool, StoreError> {
        let bytes = response.encode();
        failure::check_packet(bytes.len(), self.before.max_packet_bytes)?;
        for key in keys_of(request) {
            let owner = owner_of(request, key);
            if !self
                .record_one(&owner, request.ttl, response.status, &bytes)
                .await?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A handler that has given up its privileges, or has locked other tables, gets its record all the
    /// same.
    async fn record_one(
        &mut self,
        owner: &Owner,
        ttl: Duration,
        status: u16,
        response: &[u8],
    ) -> Result<bool, StoreError> {
        let mut is_unlocked = false;
        let mut is_restored = false;
        loop {
            let record = self.store.statements.record(owner, status, response, ttl);
            let again = match record.execute(&mut *self.connection).await {
                Ok(recorded) => return Ok(recorded.rows_affected() > 0),
                Err(error) if !is_unlocked && failure::is_not_locked(&error) => {
                    is_unlocked = true;
                    "UNLOCK TABLES".to_owned()
                }
                Err(error) if !is_restored && failure::is_denied(&error) => {
                    is_restored = true;
                    self.before.set_role()
                }
                Err(error) => return Err(self.store.failure(error).error),
            };
            let again = sqlx::raw_sql(AssertSqlSafe(again)).execute(&mut *self.connection);
            let failed = |error| self.store.failure(error).error;
            again.await.map_err(failed)?;
        }
    }

    async fn is_whole(&mut self) -> bool {
        let released = sqlx::raw_sql(IS_WHOLE).execute(&mut *self.connection);
        released.await.is_ok()
    }

    async fn leave(self: Box<Self>) {
        let Self {
            connection,
            before,
            store,
            ..
        } = *self;
        store.leave(connection, &before).await;
    }
}

impl SessionState {
    /// Back to the role that the session had. MySQL names roles quoted and with a host, and there can be
    /// several; MariaDB has one, not quoted.
    fn set_role(&self) -> String {
        match &self.role {
            None => "SET ROLE NONE".to_owned(),
            Some(roles) if roles.starts_with('`') => format!("SET ROLE {roles}"),
            Some(role) => format!("SET ROLE `{}`", role.replace('`', "``")),
        }
    }
}
