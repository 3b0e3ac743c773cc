//! Becoming the one who runs: the look, the locks, the record that takes the key.

use std::time::{Duration, Instant};

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
        progress: &[],
        take_over: None,
    }
}

/// What the record says, when it is there and alive.
enum Seen {
    Settled(Settled),
    Expired,
    Nothing,
}

/// What came of `enter.sql`.
struct Entered {
    is_locked: bool,
    seen: Seen,
    before: SessionState,
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
        let (records, asked_at) = (&self.0, Instant::now());
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
                        asked_at,
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
                        "an idle connection was unusable; trying another"
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
        let before = connection.first(async |connection| {
            let before = sqlx::raw_sql(self.pooled.before()).fetch_all(connection);
            let before = before.await.map_err(|error| self.fault(error))?;
            Ok(SessionState::of(only(&before)?, 0)?)
        });
        let before = before.await?;
        let begin = self.pooled.begin_unprotected(idle_limit);
        let begun = transaction::begin::<MySql>(connection, begin).await;
        begun.map_err(|error| self.fault(error))?;
        Ok(before)
    }

    async fn begin_with_record(
        &self,
        connection: &mut Borrowed,
        request: &TransactionRequest,
        idle_limit: Duration,
    ) -> Result<Result<SessionState, Settled>, Fault> {
        let key = request.owner.key;
        let enter = connection
            .first(async |connection| self.enter(connection, request, key, Some(idle_limit)).await);
        let Entered {
            is_locked,
            seen,
            before,
        } = enter.await?;
        let mut claims = Vec::with_capacity(1 + request.aliases.len());
        let mut settled =
            goes_on(is_locked, seen).map(|seen| claims.push((claim_of(request, key), seen)));
        for key in request.aliases.iter().copied() {
            if settled.is_err() {
                break;
            }
            let entered = self.enter(connection, request, key, None).await?;
            settled = goes_on(entered.is_locked, entered.seen)
                .map(|seen| claims.push((claim_of(request, key), seen)));
        }
        if let Err(settled) = settled {
            // Without the first lock all has been put back.
            if is_locked {
                self.execute(connection, UNLOCK).await?;
            }
            return Ok(Err(settled));
        }
        if !self.begin_and_insert(connection, &claims).await? {
            // A claim of another request, which has asked for no lock.
            self.restore(connection).await?;
            return Ok(Err(Claim::InFlight {
                lease_left: ASK_AGAIN,
            }));
        }
        Ok(Ok(before))
    }

    /// Locks one of the request's records unless it is there, and looks at it; the first with the limit of the session.
    async fn enter(
        &self,
        connection: &mut MySqlConnection,
        request: &TransactionRequest,
        key: RecordKey,
        limit: Option<Duration>,
    ) -> Result<Entered, Fault> {
        let lock = self.table.lock_name(Some(&key));
        let enter = sqlx::raw_sql(self.pooled.enter(&lock, limit, &key));
        let rows = enter.fetch_all(&mut *connection).await;
        let rows = rows.map_err(|error| self.fault(error))?;
        let first = only(&rows)?;
        Ok(Entered {
            // NULL is an error of the server's, such as too many locks.
            is_locked: column::<Option<i64>>(first, 0)? == Some(1),
            // Behind the lock: what was committed before it is there now.
            seen: seen(rows.get(1), request)?,
            before: SessionState::of(first, 1)?,
        })
    }

    /// Takes the keys; `false` when another request has one of the records.
    async fn begin_and_insert(
        &self,
        connection: &mut MySqlConnection,
        claims: &[(ClaimRequest<'_>, Seen)],
    ) -> Result<bool, Fault> {
        let expired = |(_, seen): &&(ClaimRequest<'_>, Seen)| matches!(seen, Seen::Expired);
        let new = claims
            .iter()
            .filter(|claim| !expired(claim))
            .map(|(claim, _)| claim);
        let is_any_expired = claims.iter().any(|claim| expired(&claim));
        let begin = match is_any_expired {
            false => self.pooled.begin_and_prepare(new),
            true => self.pooled.begin(new),
        };
        match transaction::begin::<MySql>(connection, begin).await {
            Ok(()) => {}
            Err(error) if is_duplicate(&error) || is_in_the_way(&error) => return Ok(false),
            Err(error) => return Err(self.fault(error)),
        }
        if !is_any_expired {
            return Ok(true);
        }
        for (claim, _) in claims.iter().filter(expired) {
            match self
                .statements
                .reclaim(claim)
                .execute(&mut *connection)
                .await
            {
                Ok(done) if done.rows_affected() > 0 => {}
                Err(error) if !is_in_the_way(&error) => return Err(self.fault(error)),
                Ok(_) | Err(_) => {
                    let rolled_back = transaction::roll_back::<MySql>(connection).await;
                    rolled_back.map_err(|error| self.fault(error))?;
                    return Ok(false);
                }
            }
        }
        let prepare = sqlx::raw_sql(self.pooled.prepare()).execute(connection);
        prepare.await.map_err(|error| self.fault(error))?;
        Ok(true)
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

/// A record counts, whatever session has the lock: one that only looks at the record may have it for a moment. Without
/// either another request runs, or the record has expired between two looks.
fn goes_on(is_locked: bool, seen: Seen) -> Result<Seen, Settled> {
    match seen {
        Seen::Settled(settled) => Err(settled),
        seen if is_locked => Ok(seen),
        Seen::Expired | Seen::Nothing => Err(Claim::InFlight {
            lease_left: ASK_AGAIN,
        }),
    }
}

/// What a row of `read.sql` says.
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
