//! The schema: where it is, its version, and the settings that it relies on.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::NAME;
use super::connector::Connector;
use super::error::{NotMigrated, store_error};
use super::lane::{Lane, Query};
use super::statements::{named, quoted};
use crate::error::{Error, ErrorKind};
use crate::store::sql::{TableName, uncommented};
use crate::store::{StoreError, StoreErrorKind};

/// The version of the schema, as the table says it.
const VERSION: &str = "3";

const SCHEMA: &str = include_str!("sql/schema_3.sql");

/// The comment of the table had the version before that was a column.
const OLD_COMMENT: &str = "idempotent-runtime schema ";

/// A table of that name, with the schema that it is in if one was chosen.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) schema: Option<String>,
    pub(super) table: TableName,
}

/// A table that this release cannot use.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unusable(String);

impl Place {
    /// As a string that PostgreSQL reads as a name.
    fn name(&self) -> String {
        let table = quoted(&self.table.to_string());
        match &self.schema {
            Some(schema) => format!("{}.{table}", quoted(schema)),
            None => table,
        }
    }
}

/// What there is in that place.
enum Found {
    NoTable,
    /// One of this release, in that schema.
    Ours(String),
    Unusable(Unusable),
}

/// Finds the table, once for a process: from then on it is named with its schema, whatever the
/// `search_path` of a session says.
pub(super) async fn find(lane: &Lane, place: &Place) -> Result<String, StoreError> {
    let name = place.name();
    let rows = lane.rows(None, || query(&name)).await?;
    let found = found(place, rows.first()).map_err(store_error)?;
    let refused = StoreError::new(NAME, StoreErrorKind::Refused);
    match found {
        Found::Ours(schema) => Ok(schema),
        Found::NoTable => Err(refused.with_source(NotMigrated(None))),
        Found::Unusable(why) => Err(refused.with_source(why)),
    }
}

/// What makes the table and its functions, as text. Without a schema that was chosen, in `public`.
pub(super) fn migrations(place: &Place) -> String {
    named(
        SCHEMA,
        place.schema.as_deref().unwrap_or("public"),
        &place.table,
    )
}

pub(super) async fn migrate(connector: &Connector, place: &Place) -> Result<String, Error> {
    let failed = |error: StoreError| {
        let message = format!("postgres store: cannot migrate the table `{}`", place.table);
        Error::new(ErrorKind::Store, message).with_source(error)
    };
    let mut connection = connector.connect_plainly().await.map_err(failed)?;
    let migrated = migrate_by(&mut connection, place).await;
    // It has served its purpose: how it ends does not matter.
    drop(connection.close().await);
    let migrated = migrated.map_err(|error| failed(store_error(error)))?;
    migrated.map_err(|why| Error::new(ErrorKind::Store, format!("postgres store: {why}")))
}

async fn migrate_by(
    connection: &mut PgConnection,
    place: &Place,
) -> sqlx::Result<Result<String, Unusable>> {
    // The second of two processes that come at once must see what the first has committed.
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
    let mut transaction = connection.begin_with(begin).await?;
    lock(&mut transaction, &place.table).await?;
    let schema = match look(&mut transaction, place).await? {
        Found::Ours(schema) => schema,
        Found::Unusable(why) => return Ok(Err(why)),
        Found::NoTable => {
            let Some(schema) = new_schema(&mut transaction, place).await? else {
                let why =
                    "no schema to create the table in: the `search_path` names none that exists";
                return Ok(Err(Unusable(why.into())));
            };
            let statements = named(SCHEMA, &schema, &place.table);
            sqlx::raw_sql(AssertSqlSafe(statements))
                .execute(&mut *transaction)
                .await?;
            schema
        }
    };
    warn_of_lossy_settings(&mut transaction).await?;
    transaction.commit().await?;
    Ok(Ok(schema))
}

/// One at a time: `IF NOT EXISTS` and `OR REPLACE` both fail when they are raced.
async fn lock(connection: &mut PgConnection, table: &TableName) -> sqlx::Result<()> {
    sqlx::query(
        "SELECT pg_advisory_xact_lock(hashtextextended('idempotent-runtime migrate ' || $1, 0))",
    )
    .bind(table.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

/// Where a table that is not there yet belongs.
async fn new_schema(connection: &mut PgConnection, place: &Place) -> sqlx::Result<Option<String>> {
    match &place.schema {
        Some(schema) => Ok(Some(schema.clone())),
        None => {
            sqlx::query_scalar("SELECT current_schema()::text")
                .fetch_one(connection)
                .await
        }
    }
}

async fn look(connection: &mut PgConnection, place: &Place) -> sqlx::Result<Found> {
    let name = place.name();
    let row = query(&name).fetch_optional(connection).await?;
    found(place, row.as_ref())
}

fn query(name: &str) -> Query<'_> {
    sqlx::query(AssertSqlSafe(uncommented(include_str!("sql/version.sql")))).bind(name)
}

fn found(place: &Place, row: Option<&PgRow>) -> sqlx::Result<Found> {
    let Some(row) = row else {
        return Ok(Found::NoTable);
    };
    let version: Option<String> = row.try_get("version")?;
    let comment: Option<String> = row.try_get("comment")?;
    let old = comment
        .as_deref()
        .and_then(|comment| comment.strip_prefix(OLD_COMMENT));
    let table = &place.table;
    Ok(Found::Unusable(Unusable(match (version.as_deref(), old) {
        (Some(VERSION), _) => return Ok(Found::Ours(row.try_get("schema")?)),
        (Some(other), _) => format!(
            "the table `{table}` has schema {other}, and this release knows {VERSION}: another release has migrated it; use that release, or another table"
        ),
        (None, Some(old)) => format!(
            "the table `{table}` has schema {old}, which was never released: drop it and its functions, or use another table"
        ),
        (None, None) => format!(
            "there is a table `{table}` that this crate has not made: it has no column `schema_version`; use another table"
        ),
    })))
}

async fn warn_of_lossy_settings(connection: &mut PgConnection) -> sqlx::Result<()> {
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let value: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(setting)
            .fetch_one(&mut *connection)
            .await?;
        if value == "off" {
            tracing::warn!(
                "postgres store: `{setting}` is off: a crash of the server forgets keys, and their requests run again"
            );
        }
    }
    Ok(())
}
