//! The beginning of a transaction: the locks, the savepoint, and the look for a record, sent together.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use deadpool_postgres::Pool;
use futures_util::future::{join, try_join_all, try_join3};
use tokio_postgres::{Row, Statement};

use super::error::pool_error;
use super::lent::DeadpoolTransaction;
use super::open::Open;
use super::pool::close_idle;
use super::record::{COLUMNS, RecordToWrite};
use super::session::SessionBefore;
use crate::key::RecordKey;
use crate::store::Claim;
use crate::store::postgres::records::Records;
use crate::store::postgres::row::{self, SeenRecord};
use crate::store::postgres::statements::{SESSION, TransactionStatements, statement};
use crate::store::postgres::transaction::{
    Begun, NotBegun, UnansweredBegin, message, message_without_record, milliseconds,
};
use crate::store::transaction::{ASK_AGAIN, Settled, TransactionRequest};

pub(super) async fn begin(
    records: &Arc<Records>,
    pool: &Pool,
    request: Option<(&TransactionRequest, TransactionStatements)>,
    idle_limit: Duration,
) -> Result<Claim<Open>, NotBegun> {
    let idle_ms = milliseconds(idle_limit);
    let unanswered = UnansweredBegin::of(|| close_idle(pool));
    let lent = DeadpoolTransaction::new(pool.get().await.map_err(pool_error)?);
    let mut session = SessionBefore::prepared(&lent).await?;
    let open = |lent, session, record| Open {
        records: Arc::clone(records),
        pool: pool.clone(),
        lent,
        session,
        record,
        is_silent: false,
        deferred_limit: idle_limit,
    };
    let Some((request, sql)) = request else {
        let asked = lent.prepare_cached(&SESSION.session).await?;
        let message = message_without_record(&idle_ms);
        let (asked, begun) = join(lent.query_one(&asked, &[]), lent.batch_execute(&message)).await;
        begun?;
        session.settings = asked?.try_get("session")?;
        unanswered.answered();
        return Ok(Claim::Acquired(open(lent, session, None)));
    };
    // Known to this connection as a rule: then nothing is sent. The record is prepared before the handler runs, because
    // with what that may set, no name could be looked up.
    let (enter, put_back, write) = try_join3(
        lent.prepare_cached(&sql.enter),
        lent.prepare_cached(&sql.put_back),
        lent.prepare_typed_cached(&sql.record_or_fail, &COLUMNS),
    )
    .await?;
    let message = message(&sql, request, &idle_ms);
    let (begun, entered) = join(
        lent.batch_execute(&message),
        try_join_all(request.keys().map(|key| enter_for(&lent, &enter, key))),
    )
    .await;
    let entered = match begun.and(entered) {
        Ok(entered) => entered,
        Err(error) => {
            // With its locks, before another connection asks for them.
            drop(lent.batch_execute("ROLLBACK").await);
            return Err(error.into());
        }
    };
    let mut record = RecordToWrite::new(request.clone(), sql, put_back);
    for (key, entered) in request.keys().zip(entered) {
        let numbered = numbered(&entered)?;
        session.settings = entered.try_get("session")?;
        let setting = |name| entered.try_get::<_, Option<&str>>(name);
        let is_ours = setting("is_taken")? != Some("true");
        let is_read_only = setting("read_only")? == Some("on");
        let is_strict = setting("isolation")? != Some("read committed");
        let (settled, is_there) = if is_strict {
            let looking = || statement(&record.sql.look).bind(&key.as_bytes()[..]);
            let looked = row::one(records.lanes()?.work.rows(None, looking).await?)?;
            (row::settled(&looked, request)?, row::is_there(&looked)?)
        } else {
            let settled = seen(&entered)?.map(|seen| seen.settled(request));
            let attempt: Option<i32> = entered.try_get("attempt")?;
            (settled.transpose()?.flatten(), attempt.is_some())
        };
        if let Some(settled) = settled_by(is_ours, settled) {
            unanswered.answered();
            lent.roll_back_and_give_back();
            return Ok(settled.map(|never| match never {}));
        }
        if is_read_only {
            lent.batch_execute("ROLLBACK").await?;
            return Err(NotBegun::read_only());
        }
        record.begun = numbered.ok_or_else(NotBegun::read_only)?;
        // One that counts has been dealt with.
        let write = match is_there {
            true => {
                lent.prepare_typed_cached(&record.sql.record_again_or_fail, &COLUMNS)
                    .await?
            }
            false => write.clone(),
        };
        record.keys.push((key, write));
    }
    unanswered.answered();
    Ok(Claim::Acquired(open(lent, session, Some(record))))
}

/// None where it was not given a number, because it does not go on.
fn numbered(entered: &Row) -> Result<Option<Begun>, tokio_postgres::Error> {
    let id: Option<i64> = entered.try_get("id")?;
    let (server, backend) = (entered.try_get("server")?, entered.try_get("backend")?);
    Ok(id.map(|id| Begun {
        server,
        id,
        backend,
    }))
}

async fn enter_for(
    lent: &DeadpoolTransaction,
    enter: &Statement,
    key: RecordKey,
) -> Result<Row, tokio_postgres::Error> {
    lent.query_one(enter, &[&&key.as_bytes()[..]]).await
}

/// A record counts, whatever session has the lock: one that only looks at the record has it for a moment.
fn settled_by(is_ours: bool, settled: Option<Settled>) -> Option<Settled> {
    let in_flight = Claim::InFlight {
        lease_left: ASK_AGAIN,
    };
    settled.or((!is_ours).then_some(in_flight))
}

/// The record, if there is one that has not expired.
fn seen(row: &Row) -> Result<Option<SeenRecord<'_>>, tokio_postgres::Error> {
    let time = |name| row.try_get::<_, Option<SystemTime>>(name);
    let (Some(fingerprint), Some(now), Some(created_at), Some(lease_until), Some(expires_at)) = (
        row.try_get("fingerprint")?,
        time("now")?,
        time("created_at")?,
        time("lease_until")?,
        time("expires_at")?,
    ) else {
        return Ok(None);
    };
    if expires_at <= now {
        return Ok(None);
    }
    Ok(Some(SeenRecord {
        fingerprint,
        state: row.try_get("state")?,
        response: row.try_get("response")?,
        attempt: row.try_get("attempt")?,
        // Zero for what is past.
        age: now.duration_since(created_at).unwrap_or_default(),
        lease_left: lease_until.duration_since(now).unwrap_or_default(),
    }))
}
