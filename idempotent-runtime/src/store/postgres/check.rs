//! What about a server, its settings and its table can lose records, or stop the store from working.

use std::time::SystemTime;

use sqlx::{Connection as _, PgConnection, Row as _};

use super::condition::condition;
use super::connector::Connector;
use super::error::store_error;
use super::schema::{Place, look};
use super::server::{is_foreign, server, settings};
use crate::store::{Finding, Severity, StoreError};

/// Everything, on connections of its own.
pub(super) async fn check(
    connector: &Connector,
    place: &Place,
) -> Result<Vec<Finding>, StoreError> {
    let mut connection = connector.connect_plainly().await?;
    let mut second = connector.connect_plainly().await?;
    // First, because a pooler can be why nothing else can be asked.
    let pooler = pooler(connector, &mut connection, &mut second).await;
    let pooler = pooler.map_err(store_error)?;
    drop(second.close().await);
    let findings = of_server(&mut connection, place).await;
    drop(connection.close().await);
    let mut findings = match findings {
        Err(_) if pooler.severity >= Severity::Warning => vec![Finding::danger(
            "prepared statements fail through the pooler",
            "requests are answered 503",
            FIX,
        )],
        findings => findings.map_err(store_error)?,
    };
    findings.push(pooler);
    Ok(findings)
}

async fn of_server(connection: &mut PgConnection, place: &Place) -> sqlx::Result<Vec<Finding>> {
    let server = server(connection).await?;
    if is_foreign(&server) {
        return Ok(vec![server]);
    }
    let mut findings = vec![server];
    findings.extend(of_postgres(connection, place).await?);
    Ok(findings)
}

async fn of_postgres(connection: &mut PgConnection, place: &Place) -> sqlx::Result<Vec<Finding>> {
    let mut findings = settings(connection).await?;
    findings.push(role(connection).await?);
    findings.extend(read_only(connection).await?);
    findings.extend(replicas(connection).await?);
    findings.push(clock(connection).await?);
    findings.extend(table(connection, place).await?);
    Ok(findings)
}

async fn role(connection: &mut PgConnection) -> sqlx::Result<Finding> {
    let replica: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()")
        .fetch_one(connection)
        .await?;
    Ok(match replica {
        true => Finding::danger(
            "the server is a replica",
            "it accepts no writes, and its data may be stale",
            "connect to the primary (by its address: `target_session_attrs` is ignored)",
        ),
        false => Finding::good("the server is the primary"),
    })
}

/// Whether this user's transactions write nothing, which a role, a database or the URL can say.
async fn read_only(connection: &mut PgConnection) -> sqlx::Result<Option<Finding>> {
    let setting = sqlx::query_scalar("SELECT current_setting('default_transaction_read_only')");
    let setting: String = setting.fetch_one(connection).await?;
    Ok((setting == "on").then(|| {
        Finding::danger(
            "`default_transaction_read_only` is on",
            "no claim can be written, and every request is answered 503",
            "`ALTER ROLE ... RESET default_transaction_read_only`, or set it to `off` where it is on: for the database, for the server, or in the URL's `options`",
        )
    }))
}

async fn replicas(connection: &mut PgConnection) -> sqlx::Result<Option<Finding>> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM pg_stat_replication), current_setting('synchronous_standby_names')",
    );
    let row = row.fetch_one(connection).await?;
    let (replicas, synchronous): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(match (replicas, synchronous.is_empty()) {
        (0, true) => None,
        (_, true) => Some(Finding::note(
            format!("{replicas} replicas, and none is synchronous"),
            "a failover loses the records that the replica had not received, and their retries run again",
            "name the replicas that a failover promotes in `synchronous_standby_names`",
        )),
        (_, false) => Some(Finding::good(format!(
            "{replicas} replicas, some of them synchronous"
        ))),
    })
}

async fn clock(connection: &mut PgConnection) -> sqlx::Result<Finding> {
    let asked = SystemTime::now();
    let now =
        sqlx::query_scalar("SELECT (date_part('epoch', clock_timestamp()) * 1e6::float8)::bigint");
    Ok(Finding::of_clock(now.fetch_one(connection).await?, asked))
}

/// The table, its indexes, and what this user may do with it.
async fn table(connection: &mut PgConnection, place: &Place) -> sqlx::Result<Vec<Finding>> {
    const MIGRATE: &str = "call `migrate`, or run `idempotent migrate`";
    const MISSING: &str = "nothing can be claimed, and every request is answered 503";
    let schema = match look(connection, place).await? {
        Ok(Some(schema)) => schema,
        Ok(None) => {
            let what = format!("there is no table `{}`", place.table);
            return Ok(vec![Finding::danger(what, MISSING, MIGRATE)]);
        }
        Err(unusable) => {
            let what = unusable.to_string();
            return Ok(vec![Finding::danger(what, MISSING, unusable.fix())]);
        }
    };
    let found = condition(connection, &schema, &place.table).await?;
    let good = format!(
        "the table `{schema}.{}` exists, with a schema that this release reads",
        place.table
    );
    Ok(std::iter::once(Finding::good(good)).chain(found).collect())
}

const FIX: &str = "use session mode, or `PgBouncer` 1.21 or newer with `max_prepared_statements`, and `without_notifications`";

/// Whether there is a pooler in between, as far as that can be seen: two connections that have one server process, a
/// connection that takes no settings, or no transactions.
async fn pooler(
    connector: &Connector,
    first: &mut PgConnection,
    second: &mut PgConnection,
) -> sqlx::Result<Finding> {
    let pid = "SELECT pg_backend_pid()";
    // Nothing that is prepared: that may be what fails.
    let ours = sqlx::raw_sql(pid).fetch_one(&mut *first).await?;
    let other = sqlx::raw_sql(pid).fetch_one(&mut *second).await?;
    let (ours, other): (i32, i32) = (ours.try_get(0)?, other.try_get(0)?);
    if first.begin().await.is_err() {
        return Ok(Finding::danger(
            "a pooler in statement mode is in between",
            "there are no transactions, on which this store relies",
            FIX,
        ));
    }
    if ours == other {
        return Ok(Finding::warning(
            "a pooler in transaction mode is in between",
            "settings of sessions are lost, and notifications never arrive, so waiters must poll",
            FIX,
        ));
    }
    Ok(match connector.takes_settings().await {
        false => Finding::note(
            "a pooler or proxy rejects the connection's settings",
            "timeouts of locks and statements, and the isolation level, are only those of the role",
            "set `lock_timeout`, `statement_timeout` and `default_transaction_isolation` for the role",
        ),
        true => Finding::good("no pooler was detected (one in session mode cannot be)"),
    })
}
