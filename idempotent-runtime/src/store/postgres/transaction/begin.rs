//! The beginning of a transaction: the locks, the savepoint, and the look for a record.

use std::iter::repeat_with;
use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row};
use tokio::time::Duration;

use super::fate::Begun;
use super::lock::lock;
use super::not_begun::NotBegun;
use super::open::Open;
use super::pool::{UnansweredBegin, close_idle};
use super::record::RecordToWrite;
use crate::store::postgres::records::Records;
use crate::store::postgres::row;
use crate::store::postgres::statements::{SESSION, TransactionStatements, statement};
use crate::store::sql::{Loan, transaction};
use crate::store::transaction::{ASK_AGAIN, Session, Settled, TransactionRequest};
use crate::store::{Claim, StoreError};

pub(super) async fn begin(
    records: &Arc<Records>,
    request: Option<(&TransactionRequest, TransactionStatements)>,
    idle_limit: Duration,
) -> Result<Claim<Box<dyn Session<PgConnection>>>, NotBegun> {
    let idle_ms = milliseconds(idle_limit);
    let pool = records.connector().pool();
    let unanswered = UnansweredBegin::of(|| close_idle(pool));
    let mut connection = Loan::new(pool.acquire().await?);
    let Some((request, sql)) = request else {
        // Not in that message: sqlx reads no rows of what begins a transaction.
        let session = statement(&SESSION.session).fetch_one(&mut *connection);
        let session = session.await?.try_get("session")?;
        let begin = AssertSqlSafe(message_without_record(&idle_ms));
        transaction::begin::<Postgres>(&mut connection, begin).await?;
        unanswered.answered();
        return Ok(Claim::Acquired(Box::new(Open {
            records: Arc::clone(records),
            connection,
            session,
            record: None,
            is_silent: false,
            is_without_transaction: false,
            deferred_limit: idle_limit,
        })));
    };
    let begin = AssertSqlSafe(message(&sql, request, &idle_ms));
    transaction::begin::<Postgres>(&mut connection, begin).await?;
    let mut record = RecordToWrite {
        request: request.clone(),
        sql,
        keys: Vec::new(),
        begun: Begun::default(),
    };
    let mut session = Vec::new();
    for key in request.keys() {
        let entered = statement(&record.sql.enter)
            .bind(&key.as_bytes()[..])
            .fetch_one(&mut *connection)
            .await;
        let entered = match entered {
            Ok(entered) => entered,
            Err(error) => {
                // With its locks, before another connection asks for them.
                drop(transaction::roll_back::<Postgres>(&mut connection).await);
                return Err(error.into());
            }
        };
        let setting = |name| entered.try_get::<Option<&str>, _>(name);
        let (is_ours, is_read_only) = (
            setting("is_taken")? != Some("true"),
            setting("read_only")? == Some("on"),
        );
        let is_strict = setting("isolation")? != Some("read committed");
        session = entered.try_get("session")?;
        let numbered = numbered(&entered)?;
        let looked = if is_strict {
            let looking = || statement(&record.sql.look).bind(&key.as_bytes()[..]);
            row::one(records.lanes()?.work.rows(None, looking).await?)?
        } else {
            entered
        };
        if let Some(settled) = settled(is_ours, &looked, request)? {
            unanswered.answered();
            // No caller needs to wait for it: it is sent when the connection is back in the pool.
            transaction::start_to_roll_back::<Postgres>(&mut connection);
            connection.give_back();
            return Ok(settled.map(|never| match never {}));
        }
        if is_read_only {
            transaction::roll_back::<Postgres>(&mut connection).await?;
            return Err(NotBegun::read_only());
        }
        record.begun = numbered.ok_or_else(NotBegun::read_only)?;
        // One that counts has been dealt with.
        record.keys.push((key, row::is_there(&looked)?));
    }
    unanswered.answered();
    Ok(Claim::Acquired(Box::new(Open {
        records: Arc::clone(records),
        connection,
        session,
        record: Some(record),
        is_silent: false,
        is_without_transaction: false,
        deferred_limit: idle_limit,
    })))
}

/// None where it was not given a number, because it does not go on.
fn numbered(entered: &PgRow) -> sqlx::Result<Option<Begun>> {
    let id: Option<i64> = entered.try_get("id")?;
    let (server, backend) = (entered.try_get("server")?, entered.try_get("backend")?);
    Ok(id.map(|id| Begun {
        server,
        id,
        backend,
    }))
}

/// Within what the server takes.
pub(in crate::store::postgres) fn milliseconds(idle_limit: Duration) -> String {
    let idle_ms = i32::try_from(idle_limit.as_millis());
    idle_ms.unwrap_or(i32::MAX).to_string()
}

/// What begins a transaction for a record, with its locks.
pub(in crate::store::postgres) fn message(
    sql: &TransactionStatements,
    request: &TransactionRequest,
    idle_ms: &str,
) -> String {
    // What the session has as its limit is kept for session.sql by the first one that sets another.
    let idle_limits = std::iter::once(format!("'{idle_ms}'")).chain(repeat_with(|| "NULL".into()));
    let locks: String = request
        .keys()
        .zip(idle_limits)
        .map(|(key, idle_ms)| {
            let lock = lock(&sql.name, &key).to_string();
            sql.lock
                .replace("{lock}", &lock)
                .replace("{idle_ms}", &idle_ms)
        })
        .collect();
    sql.begin.replace("{locks}", &locks)
}

/// What begins one without.
pub(in crate::store::postgres) fn message_without_record(idle_ms: &str) -> String {
    include_str!("../sql/begin_without_record.sql").replace("{idle_ms}", idle_ms)
}

/// A record counts, whatever session has the lock: one that only looks at the record has it for a moment.
fn settled(
    is_ours: bool,
    looked: &PgRow,
    request: &TransactionRequest,
) -> Result<Option<Settled>, StoreError> {
    if let Some(settled) = row::settled(looked, request)? {
        return Ok(Some(settled));
    }
    Ok((!is_ours).then_some(Claim::InFlight {
        lease_left: ASK_AGAIN,
    }))
}
