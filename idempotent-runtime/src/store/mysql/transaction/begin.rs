//! Becoming the one who runs: the look, the locks, the record that takes the key.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::mysql::MySqlRow;
use sqlx::{MySql, MySqlConnection};

use super::connection::Borrowed;
use super::open::Open;
use super::session::{SessionState, only};
use crate::key::RecordKey;
use crate::record::Owner;
use crate::store::mysql::error::{Fault, NAME, is_duplicate, is_in_the_way};
use crate::store::mysql::pooled::UNLOCK;
use crate::store::mysql::records::Records;
use crate::store::mysql::row::{self, column};
use crate::store::sql::{corrupt, transaction};
use crate::store::transaction::{ASK_AGAIN, Begin, Session, Settled, TransactionRequest};
use crate::store::{Claim, ClaimRequest, StoreError};

/// How long a record that a handler has committed by itself lives at least while it is not completed.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Without a lease: should the handler commit by itself, as it does by every `CREATE TABLE`, what
/// others see is that it is unknown how that ends.
fn claim_of(request: &TransactionRequest, key: RecordKey) -> ClaimRequest<'_> {
    ClaimRequest {
        owner: Owner {
            key,
            token: request.owner.token,
        },
        fingerprint: request.fingerprint,
        operation: &request.operation,
        label: request.label.as_deref(),
        lease: Duration::ZERO,
        retention: request.ttl.max(RETENTION),
        take_over: None,
    }
}

/// What the record says, when it is there and alive.
enum Seen {
    Settled(Settled),
    Expired,
    Nothing,
}

/// Begins transactions on the application's pool.
pub(in crate::store::mysql) struct MySqlTransactions(pub(in crate::store::mysql) Records);

#[async_trait]
impl Begin<MySqlConnection> for MySqlTransactions {
    async fn begin(
        &self,
        request: Option<&TransactionRequest>,
        idle_limit: Duration,
    ) -> Result<Claim<Box<dyn Session<MySqlConnection>>>, StoreError> {
        // Each that was idle can be of no use: closed by the server, gone without a word, demoted. Nothing
        // has happened then, and the last is a fresh one.
        let records = &self.0;
        loop {
            let mut connection = Borrowed::from(&records.pool).await?;
            let begun = match request {
                Some(request) => {
                    records
                        .begin_with_record(&mut connection, request, idle_limit)
                        .await
                }
                None => records
                    .begin_unprotected(&mut connection, idle_limit)
                    .await
                    .map(Ok),
            };
            match begun {
                Ok(Ok(before)) => {
                    return Ok(Claim::Acquired(Box::new(Open {
                        connection,
                        request: request.cloned(),
                        before,
                        records: records.clone(),
                    })));
                }
                Ok(Err(settled)) => {
                    connection.give_back();
                    return Ok(settled.map(|never| match never {}));
                }
                Err(fault) if fault.may_be_repeated() && connection.was_idle() => {
                    tracing::debug!(
                        error = &fault.error as &dyn std::error::Error,
                        "an idle connection was of no use, trying another one"
                    );
                }
                // What was begun and not committed has not happened.
                Err(fault) => return Err(fault.error.not_executed()),
            }
        }
    }
}

impl Records {
    async fn begin_unprotected(
        &self,
        connection: &mut Borrowed,
        idle_limit: Duration,
    ) -> Result<SessionState, Fault> {
        let begun = connection.first(async |connection| {
            let begin = self.pooled.begin_unprotected(idle_limit);
            let begun = transaction::begin::<MySql>(connection, begin).await;
            begun.map_err(|error| self.fault(error))
        });
        begun.await?;
        self.prepare(connection).await
    }

    async fn begin_with_record(
        &self,
        connection: &mut Borrowed,
        request: &TransactionRequest,
        idle_limit: Duration,
    ) -> Result<Result<SessionState, Settled>, Fault> {
        // Before the lock: a request that only looks takes none.
        let key = request.owner.key;
        let seen = connection.first(async |connection| self.look(connection, request, key).await);
        if let Seen::Settled(settled) = seen.await? {
            return Ok(Err(settled));
        }
        let mut claims = Vec::with_capacity(1 + request.aliases.len());
        for key in request.keys() {
            // Set once for all of the request's records.
            let limit = claims.is_empty().then_some(idle_limit);
            match self.enter(connection, request, key, limit).await? {
                Seen::Settled(settled) => {
                    self.execute(connection, UNLOCK).await?;
                    return Ok(Err(settled));
                }
                seen => claims.push((claim_of(request, key), seen)),
            }
        }
        let begun = transaction::begin::<MySql>(connection, self.pooled.begin()).await;
        begun.map_err(|error| self.fault(error))?;
        for (claim, seen) in &claims {
            if !self.insert(connection, claim, seen).await? {
                // A claim of another request, which has asked for no lock.
                let rolled_back = transaction::roll_back::<MySql>(connection).await;
                rolled_back.map_err(|error| self.fault(error))?;
                self.restore(connection).await?;
                return Ok(Err(Claim::InFlight {
                    lease_left: ASK_AGAIN,
                }));
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
        limit: Option<Duration>,
    ) -> Result<Seen, Fault> {
        let lock = self.table.lock_name(Some(&key));
        let enter = sqlx::raw_sql(self.pooled.enter(&lock, limit, &key));
        let rows = enter.fetch_all(&mut *connection).await;
        let rows = rows.map_err(|error| self.fault(error))?;
        // NULL is an error of the server's, such as too many locks.
        if column::<Option<i64>>(only(&rows)?, 0)? != Some(1) {
            return Ok(Seen::Settled(Claim::InFlight {
                lease_left: ASK_AGAIN,
            }));
        }
        // Behind the lock: what was committed before it is there now.
        seen(rows.get(1), request)
    }

    async fn look(
        &self,
        connection: &mut MySqlConnection,
        request: &TransactionRequest,
        key: RecordKey,
    ) -> Result<Seen, Fault> {
        let rows = sqlx::raw_sql(self.pooled.read(&key)).fetch_all(connection);
        let rows = rows.await.map_err(|error| self.fault(error))?;
        seen(rows.first(), request)
    }

    /// Takes the key; `false` when another request has the record.
    async fn insert(
        &self,
        connection: &mut MySqlConnection,
        claim: &ClaimRequest<'_>,
        seen: &Seen,
    ) -> Result<bool, Fault> {
        let statement = match seen {
            Seen::Expired => self.statements.reclaim(claim),
            Seen::Nothing | Seen::Settled(_) => self.statements.insert(claim),
        };
        match statement.execute(connection).await {
            Ok(done) => Ok(done.rows_affected() > 0),
            Err(error) if is_duplicate(&error) || is_in_the_way(&error) => Ok(false),
            Err(error) => Err(self.fault(error)),
        }
    }

    async fn execute(
        &self,
        connection: &mut MySqlConnection,
        statement: &'static str,
    ) -> Result<(), Fault> {
        let executed = sqlx::raw_sql(statement).execute(connection).await;
        executed.map(drop).map_err(|error| self.fault(error))
    }
}

/// What a row of `pooled_read.sql` says.
fn seen(row: Option<&MySqlRow>, request: &TransactionRequest) -> Result<Seen, Fault> {
    let Some(row) = row else {
        return Ok(Seen::Nothing);
    };
    let Some(row) = row::read(row)? else {
        return Ok(Seen::Expired);
    };
    let claim = row.claim(&request.fingerprint, request.owner.token);
    let claim = claim.map_err(|error| corrupt(NAME, error))?;
    // A record of this token is what an earlier try has committed.
    let (attempt, age) = (row.attempt, row.age);
    let abandoned = Claim::Abandoned { attempt, age };
    Ok(Seen::Settled(claim.and_then(|_| abandoned)))
}
