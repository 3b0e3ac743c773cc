//! The condition of a table that is there.

use sqlx::{PgConnection, Row as _};

use crate::store::Finding;
use crate::store::sql::TableName;

/// Whether it survives a crash, has its indexes, and lets this user do what the store does.
pub(super) async fn condition(
    connection: &mut PgConnection,
    schema: &str,
    table: &TableName,
) -> sqlx::Result<[Finding; 4]> {
    let row = sqlx::query(include_str!("sql/check.sql"))
        .bind(schema)
        .bind(table.to_string())
        .fetch_one(connection)
        .await?;
    let (unlogged, indexes): (bool, i64) = (row.try_get("unlogged")?, row.try_get("indexes")?);
    let (allowed, complete): (bool, bool) = (row.try_get("allowed")?, row.try_get("complete")?);
    let secured: bool = row.try_get("secured")?;
    Ok([
        match secured {
            true => Finding::danger(
                "row-level security of the table applies to this user",
                "a record that a policy hides cannot be claimed and is not absent: requests with its key are answered 503",
                "`ALTER TABLE ... DISABLE ROW LEVEL SECURITY`, or `ALTER ROLE ... BYPASSRLS` for this user",
            ),
            false => Finding::good("no row-level security applies to this user"),
        },
        match unlogged {
            true => Finding::danger(
                "the table is UNLOGGED",
                "a crash of the server empties it, and its requests run again",
                "`ALTER TABLE ... SET LOGGED`",
            ),
            false => Finding::good("the table is logged"),
        },
        match indexes {
            2 => Finding::good("its indexes are there"),
            _ => Finding::warning(
                "an index of the table is missing or invalid",
                "listing, or purging, reads the whole table",
                "create it as the published SQL says",
            ),
        },
        match allowed {
            _ if !complete => Finding::danger(
                "a function or the procedure of the table is missing",
                "requests are answered 503",
                "create it as the published SQL says, which is to be run in one transaction",
            ),
            true => Finding::good("this user may read and write it, and call its functions"),
            false => Finding::danger(
                "this user may not do all that the store does",
                "requests are answered 503",
                "GRANT SELECT, INSERT, UPDATE, DELETE on the table and EXECUTE on its functions and its procedure",
            ),
        },
    ])
}
