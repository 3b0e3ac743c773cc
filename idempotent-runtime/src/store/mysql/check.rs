//! What about a server, its settings and its table can lose records, or stop the store from working.

use std::time::SystemTime;

use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, MySqlConnection, Row as _};

use super::schema::{VERSION, found};
use super::server::{is_foreign, server, settings};
use super::statements::Statements;
use super::table::QualifiedTable;
use crate::store::Finding;

/// Everything that can be asked over this connection.
pub(super) async fn check(
    connection: &mut MySqlConnection,
    table: &QualifiedTable,
) -> sqlx::Result<Vec<Finding>> {
    let mut findings = vec![server(connection).await?];
    if findings.iter().any(is_foreign) {
        return Ok(findings);
    }
    findings.extend(settings(connection).await?);
    findings.push(replicas(connection).await?);
    findings.push(clock(connection).await?);
    findings.extend(of_table(connection, table).await?);
    Ok(findings)
}

/// What a failover keeps. Replicas are seen by a user with the right PROCESS.
async fn replicas(connection: &mut MySqlConnection) -> sqlx::Result<Finding> {
    let replicas =
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'";
    let replicas = scalar(connection, replicas).await?;
    let semi = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('rpl_semi_sync_master_enabled', \
                'rpl_semi_sync_source_enabled') AND Value IN ('ON', '1')";
    let semi = sqlx::query(semi).fetch_optional(&mut *connection).await?;
    Ok(match (semi.is_some(), replicas) {
        (true, _) => Finding::good("replication is semi-synchronous"),
        (false, 0) => Finding::good("no replica is seen"),
        (false, _) => Finding::note(
            format!("{replicas} replicas, and replication is not semi-synchronous"),
            "a failover loses the records that the replica had not received, and their retries run again",
            "use semi-synchronous replication with AFTER_SYNC",
        ),
    })
}

async fn clock(connection: &mut MySqlConnection) -> sqlx::Result<Finding> {
    let asked = SystemTime::now();
    let now = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))";
    Ok(Finding::of_clock(scalar(connection, now).await?, asked))
}

/// The table, its index, and what this user may do with it.
async fn of_table(
    connection: &mut MySqlConnection,
    table: &QualifiedTable,
) -> sqlx::Result<Vec<Finding>> {
    const MIGRATE: &str = "call `migrate`, or run `idempotent migrate`";
    const MISSING: &str = "nothing can be claimed, and every request is answered 503";
    let row = Statements::schema(table)
        .fetch_one(&mut *connection)
        .await?;
    let found = found(&row).map_err(|error| sqlx::Error::Decode(error.into()))?;
    match found.is_there(table, VERSION) {
        Ok(true) => {}
        Ok(false) => {
            let what = format!("there is no table `{table}`, or this user may not see it");
            return Ok(vec![Finding::danger(what, MISSING, MIGRATE)]);
        }
        Err(unusable) => {
            let what = unusable.to_string();
            return Ok(vec![Finding::danger(what, MISSING, unusable.fix())]);
        }
    }
    let good = format!("the table `{table}` exists, with a schema that this release reads");
    let parts = sqlx::query(include_str!("sql/check.sql"))
        .bind(table.database().map(str::to_owned))
        .bind(table.name().to_string());
    let parts = parts.fetch_one(&mut *connection).await?;
    let rights = rights(connection, table).await?;
    Ok([
        vec![Finding::good(good)],
        of_parts(&parts)?.into(),
        vec![rights],
    ]
    .concat())
}

fn of_parts(row: &MySqlRow) -> sqlx::Result<[Finding; 2]> {
    let (engine, indexes): (Option<Vec<u8>>, i64) = (row.try_get(0)?, row.try_get(1)?);
    let engine = String::from_utf8_lossy(&engine.unwrap_or_default()).into_owned();
    Ok([
        match engine.eq_ignore_ascii_case("innodb") {
            true => Finding::good("its engine is InnoDB"),
            false => Finding::danger(
                format!("its engine is {engine}"),
                "without transactions and row locks, two requests with one key can both run",
                "`ALTER TABLE ... ENGINE = InnoDB`",
            ),
        },
        match indexes {
            2 => Finding::good("its indexes are there"),
            _ => Finding::danger(
                "an index of the table is missing",
                "listing fails, or purging reads the whole table",
                "create it as the published SQL says",
            ),
        },
    ])
}

/// By trying, on no row: a server tells what was granted in too many ways.
async fn rights(connection: &mut MySqlConnection, table: &QualifiedTable) -> sqlx::Result<Finding> {
    for statement in [
        "SELECT 1 FROM {records} WHERE FALSE",
        "UPDATE {records} SET attempt = attempt WHERE FALSE",
        "DELETE FROM {records} WHERE FALSE",
        "INSERT INTO {records} SELECT * FROM {records} WHERE FALSE",
    ] {
        let statement = AssertSqlSafe(table.in_statement(statement));
        let tried = sqlx::raw_sql(statement).execute(&mut *connection).await;
        match tried {
            Ok(_) => {}
            Err(sqlx::Error::Database(_)) => {
                return Ok(Finding::danger(
                    "this user may not do all that the store does",
                    "requests are answered 503",
                    "GRANT SELECT, INSERT, UPDATE, DELETE on the table",
                ));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Finding::good("this user may read and write the table"))
}

async fn scalar(connection: &mut MySqlConnection, query: &'static str) -> sqlx::Result<i64> {
    sqlx::query_scalar(query).fetch_one(connection).await
}
