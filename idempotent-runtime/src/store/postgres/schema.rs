//! The schema, its version, and the settings that it relies on.

use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};

use super::error::store_error;
use crate::error::{Error, ErrorKind};
use crate::store::sql::TableName;

/// The steps from an empty database to the present schema. Never edit one that was released.
const STEPS: [&str; 1] = [include_str!("schema_1.sql")];

const COMMENT: &str = "idempotent-runtime schema ";

pub(super) async fn migrate(pool: &PgPool, table: &TableName) -> Result<(), Error> {
    let failed = |error| {
        let message = format!("postgres store: cannot migrate the table `{table}`");
        Error::new(ErrorKind::Store, message).with_source(store_error(error))
    };
    // The second of two who come at once must see what the first has committed.
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
    let mut transaction = pool.begin_with(begin).await.map_err(failed)?;
    lock(&mut transaction, table).await.map_err(failed)?;
    let found = version(&mut transaction, table).await.map_err(failed)?;
    let done = steps_done(table, found)?;
    for step in STEPS.iter().skip(done) {
        sqlx::raw_sql(AssertSqlSafe(table.in_statement(step)))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    warn_of_lossy_settings(&mut transaction)
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)
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

/// What the table says of itself, when there is one.
#[derive(Clone, Copy)]
enum Found {
    NoTable,
    Version(usize),
    /// It has no comment, or not one of ours.
    Stranger,
}

async fn version(connection: &mut PgConnection, table: &TableName) -> sqlx::Result<Found> {
    let statement = table.in_statement(include_str!("version.sql"));
    let row = sqlx::query(AssertSqlSafe(statement))
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else {
        return Ok(Found::NoTable);
    };
    let comment: Option<&str> = row.try_get("comment")?;
    let version = comment.and_then(|comment| comment.strip_prefix(COMMENT)?.parse().ok());
    Ok(version.map_or(Found::Stranger, Found::Version))
}

fn steps_done(table: &TableName, found: Found) -> Result<usize, Error> {
    let newest = STEPS.len();
    let message = match found {
        Found::NoTable => return Ok(0),
        Found::Version(version) if version <= newest => return Ok(version),
        Found::Version(version) => format!(
            "postgres store: the table `{table}` has schema {version}, and this release knows up to {newest}: a newer release has migrated it"
        ),
        Found::Stranger => format!(
            "postgres store: there is a table `{table}` that this crate has not made: its comment is not `{COMMENT}{newest}`"
        ),
    };
    Err(Error::new(ErrorKind::Store, message))
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
