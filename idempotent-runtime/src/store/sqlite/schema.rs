//! The table: whether it is there, and is one that this release knows and this crate has made.

use sqlx::SqliteConnection;

use super::error::NAME;
use crate::store::sql::{Found, NotMigrated, TableName};
use crate::store::{StoreError, StoreErrorKind};

/// The version that this release reads and makes.
pub(super) const VERSION: u32 = 3;

/// What the text of the table had in it before the version was a column.
const OLD_COMMENT: &str = "-- idempotent-runtime schema ";

/// Whether the table is there and is one that this release can use.
pub(super) async fn check(
    connection: &mut SqliteConnection,
    table: &TableName,
) -> sqlx::Result<Result<(), StoreError>> {
    let found = made(connection, table).await?;
    Ok(match found.is_there(table, VERSION) {
        Ok(true) => Ok(()),
        // Or it is a view.
        Ok(false) => {
            let refused = StoreError::new(NAME, StoreErrorKind::Refused);
            Err(refused.with_source(NotMigrated::new("SqliteStore", None)))
        }
        Err(unusable) => Err(unusable.of(NAME)),
    })
}

/// What there is of that name.
pub(super) async fn made(
    connection: &mut SqliteConnection,
    table: &TableName,
) -> sqlx::Result<Found> {
    let made: Option<(String, Option<String>)> = sqlx::query_as(include_str!("sql/schema.sql"))
        .bind(table.to_string())
        .fetch_optional(connection)
        .await?;
    Ok(made.map_or(Found::Nothing, |(text, version)| {
        found(&text, version.as_deref())
    }))
}

fn found(made_with: &str, version: Option<&str>) -> Found {
    let old = || made_with.split_once(OLD_COMMENT)?.1.lines().next();
    match version.or_else(old) {
        Some(version) => {
            let version = version.trim_end().parse();
            version.map_or(Found::Foreign, |version| Found::Made(Some(version)))
        }
        None => Found::Foreign,
    }
}
