//! What about a database file can lose records, or stop the store from working.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::error::store_error;
use super::schema::{VERSION, made};
use crate::store::sql::TableName;
use crate::store::{Finding, StoreError};

/// Everything, on a connection of its own that changes nothing: with the application's options, not the store's.
pub(super) async fn check(
    options: &SqliteConnectOptions,
    table: &TableName,
) -> Result<Vec<Finding>, StoreError> {
    let options = options.clone().create_if_missing(false);
    let mut connection = options.connect().await.map_err(store_error)?;
    let findings = of_database(&mut connection, table).await;
    drop(connection.close().await);
    let mut findings = findings.map_err(store_error)?;
    findings.extend(access(options.get_filename()));
    Ok(findings)
}

async fn of_database(
    connection: &mut SqliteConnection,
    table: &TableName,
) -> sqlx::Result<Vec<Finding>> {
    let version: String = text(connection, "SELECT sqlite_version()").await?;
    let mut findings = vec![Finding::good(format!("linked SQLite version is {version}"))];
    let mode = text(connection, "PRAGMA journal_mode").await?;
    findings.push(match &*mode {
        "wal" => Finding::good("`journal_mode` is WAL"),
        "memory" => Finding::danger(
            "the database is in memory, or its journal is",
            "its records are lost with the process",
            "use a file",
        ),
        other => Finding::of(
            crate::store::Severity::Note,
            format!("`journal_mode` is {other}"),
            "the store works only in WAL mode, and sets it when it connects",
            "nothing, unless another program changes it back",
        ),
    });
    findings.push(Finding::good(
        "`synchronous` is FULL on each connection of the store, whatever the default is",
    ));
    findings.extend(of_table(connection, table).await?);
    Ok(findings)
}

async fn of_table(
    connection: &mut SqliteConnection,
    table: &TableName,
) -> sqlx::Result<Vec<Finding>> {
    const MIGRATE: &str = "call `migrate`, or run `idempotent migrate`";
    const MISSING: &str = "nothing can be claimed, and every request is answered 503";
    match made(connection, table).await?.is_there(table, VERSION) {
        Ok(true) => {}
        Ok(false) => {
            let what = format!("there is no table `{table}`");
            return Ok(vec![Finding::danger(what, MISSING, MIGRATE)]);
        }
        Err(unusable) => {
            let what = unusable.to_string();
            return Ok(vec![Finding::danger(what, MISSING, unusable.fix())]);
        }
    }
    let indexes = "SELECT count(*) FROM main.sqlite_schema \
                   WHERE type = 'index' AND name IN (?1 || '_purge_at', ?1 || '_uncompleted')";
    let indexes: i64 = sqlx::query_scalar(indexes)
        .bind(table.to_string())
        .fetch_one(connection)
        .await?;
    Ok(vec![
        Finding::good(format!(
            "the table `{table}` exists, with a schema that this release reads"
        )),
        match indexes {
            2 => Finding::good("its indexes are there"),
            _ => Finding::of(
                crate::store::Severity::Warning,
                "an index of the table is missing",
                "listing, or purging, reads the whole table",
                "migrate: it makes them",
            ),
        },
    ])
}

async fn text(connection: &mut SqliteConnection, query: &'static str) -> sqlx::Result<String> {
    sqlx::query_scalar(query).fetch_one(connection).await
}

/// Whether this user may write the file, and make others beside it: the log and its index.
fn access(path: &Path) -> Option<Finding> {
    let file = std::fs::metadata(path).ok()?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let folder = std::fs::metadata(folder).ok()?;
    let is_locked = file.permissions().readonly() || folder.permissions().readonly();
    Some(match is_locked {
        true => Finding::danger(
            "the file, or its folder, is read-only",
            "nothing can be claimed, and every request is answered 503",
            "let the service's user write both: the log is a file beside it",
        ),
        false => Finding::good("the file and its folder are not read-only"),
    })
}
