//! The schema: where it is, its version, and the settings that it relies on.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::condition::condition;
use super::connector::Connector;
use super::error::{NAME, store_error};
use super::lane::Lane;
use super::server::{is_foreign, server, settings};
use super::statements::{Query, named, quoted};
use crate::error::{Error, ErrorKind};
use crate::store::sql::{Found, NotMigrated, TableName, Unusable, uncommented};
use crate::store::{StoreError, StoreErrorKind, finding};

/// The version that this release reads and makes.
const VERSION: u32 = 4;

const SCHEMA: &str = include_str!("sql/schema_4.sql");

/// The comment of the table had the version before that was a column.
const OLD_COMMENT: &str = "idempotent-runtime schema ";

/// A table of that name, with the schema that it is in if one was chosen.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) schema: Option<String>,
    pub(super) table: TableName,
}

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

/// Finds the table, once for a process: from then on it is named with its schema, whatever the
/// `search_path` of a session says.
pub(super) async fn find(lane: &Lane, place: &Place) -> Result<String, StoreError> {
    let name = place.name();
    let rows = lane.rows(None, || query(&name)).await?;
    let found = found(place, rows.first()).map_err(store_error)?;
    match found {
        Ok(Some(schema)) => Ok(schema),
        Ok(None) => {
            let refused = StoreError::new(NAME, StoreErrorKind::Refused);
            Err(refused.with_source(NotMigrated::new("PostgresStore", None)))
        }
        Err(unusable) => Err(unusable.of(NAME)),
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
    migrated.map_err(|error| failed(store_error(error)))?
}

async fn migrate_by(
    connection: &mut PgConnection,
    place: &Place,
) -> sqlx::Result<Result<String, Error>> {
    let refused = |why| {
        Err(Error::new(
            ErrorKind::Store,
            format!("postgres store: {why}"),
        ))
    };
    let server = server(connection).await?;
    if is_foreign(&server) {
        return Ok(refused(server.to_string()));
    }
    // The second of two processes that come at once must see what the first has committed.
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
    let mut transaction = connection.begin_with(begin).await?;
    lock(&mut transaction, &place.table).await?;
    let schema = match look(&mut transaction, place).await? {
        Ok(Some(schema)) => schema,
        Err(unusable) => return Ok(refused(unusable.to_string())),
        Ok(None) => {
            let Some(schema) = new_schema(&mut transaction, place).await? else {
                let why =
                    "no schema to create the table in: the `search_path` names none that exists";
                return Ok(refused(why.to_owned()));
            };
            let statements = named(SCHEMA, &schema, &place.table);
            sqlx::raw_sql(AssertSqlSafe(statements))
                .execute(&mut *transaction)
                .await?;
            schema
        }
    };
    let mut findings = settings(&mut transaction).await?;
    findings.extend(condition(&mut transaction, &schema, &place.table).await?);
    transaction.commit().await?;
    finding::log(NAME, &findings);
    Ok(Ok(schema))
}

/// One at a time: `IF NOT EXISTS` and `OR REPLACE` both fail when they are raced.
async fn lock(connection: &mut PgConnection, table: &TableName) -> sqlx::Result<()> {
    sqlx::query(
        "SELECT pg_advisory_xact_lock(hashtextextended('idempotent-runtime migrate ' || $1, 0::bigint))",
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

pub(super) async fn look(
    connection: &mut PgConnection,
    place: &Place,
) -> sqlx::Result<Result<Option<String>, Unusable>> {
    let name = place.name();
    let row = query(&name).fetch_optional(connection).await?;
    found(place, row.as_ref())
}

fn query(name: &str) -> Query<'_> {
    sqlx::query(AssertSqlSafe(uncommented(include_str!("sql/version.sql")))).bind(name)
}

/// The schema that the table is in, if there is one.
fn found(place: &Place, row: Option<&PgRow>) -> sqlx::Result<Result<Option<String>, Unusable>> {
    let found = match row {
        Some(row) => made(row)?,
        None => Found::Nothing,
    };
    let schema = row.map(|row| row.try_get("schema")).transpose()?;
    Ok(found.is_there(&place.table, VERSION).map(|_| schema))
}

fn made(row: &PgRow) -> sqlx::Result<Found> {
    let version: Option<&str> = row.try_get("version")?;
    let comment: Option<&str> = row.try_get("comment")?;
    let has_key: bool = row.try_get("has_key")?;
    let old = comment.and_then(|comment| comment.strip_prefix(OLD_COMMENT));
    Ok(match version.or(old) {
        Some(version) => match version.parse() {
            Ok(VERSION) if !has_key => Found::WithoutKey,
            Ok(version) => Found::Made(Some(version)),
            Err(_) => Found::Foreign,
        },
        None => Found::Foreign,
    })
}
