//! The table: made if it is missing, and never one that this release does not know or that is not ours.

use async_trait::async_trait;

use super::NAME;
use super::row::fetch;
use super::session::Session;
use super::writer::{Failure, Operation};
use crate::key::RecordKey;
use crate::store::{StoreError, StoreErrorKind};

/// The version of the schema, as the table says it.
const VERSION: u32 = 3;

/// What the text of the table had in it before the version was a column.
const OLD_COMMENT: &str = "-- idempotent-runtime schema ";

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("there is no table `{0}`: run `migrate` once, or `connect`, which does so")]
    Missing(String),
    #[error(
        "it has schema {0}, and this release knows schema {VERSION}: a newer release has made it"
    )]
    Newer(u32),
    #[error(
        "it has schema {0}, and this release needs schema {VERSION}: drop the table, which forgets its \
         keys, or name another one, and run `migrate`"
    )]
    Older(u32),
    #[error("there is a table of that name that this crate has not made")]
    Stranger,
}

pub(super) struct Migrate;

#[async_trait]
impl Operation for Migrate {
    type Output = ();

    const NEEDS_TABLE: bool = false;

    async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let create_table = session.statements.create_table.clone();
        sqlx::query(create_table)
            .execute(&mut session.connection)
            .await?;
        check(session).await??;
        let statements = &session.statements;
        for create_index in [&statements.create_index, &statements.create_listing_index] {
            sqlx::query(create_index.clone())
                .execute(&mut session.connection)
                .await?;
        }
        // Whatever else may be wrong with it is found out now and not by the first claim.
        let get = session.statements.get.clone();
        let no_key = RecordKey::from_bytes([0; 32]);
        fetch(&mut session.connection, get, &no_key).await?;
        Ok(())
    }
}

/// Whether the table is there and is one that this release can use.
pub(super) async fn check(session: &mut Session) -> sqlx::Result<Result<(), StoreError>> {
    let name = session.statements.table.to_string();
    let found: Option<(String, Option<String>)> = sqlx::query_as(include_str!("sql/schema.sql"))
        .bind(name.clone())
        .fetch_optional(&mut session.connection)
        .await?;
    let why = match found {
        // Or it is a view.
        None => Unusable::Missing(name),
        Some((made_with, version)) => match version_of(&made_with, version.as_deref()) {
            Some(VERSION) => return Ok(Ok(())),
            Some(version) if version > VERSION => Unusable::Newer(version),
            Some(version) => Unusable::Older(version),
            None => Unusable::Stranger,
        },
    };
    let refused = StoreError::new(NAME, StoreErrorKind::Refused);
    Ok(Err(refused.with_source(why)))
}

fn version_of(made_with: &str, default: Option<&str>) -> Option<u32> {
    if let Some(version) = default {
        return version.parse().ok();
    }
    let (_, behind) = made_with.split_once(OLD_COMMENT)?;
    behind.lines().next()?.trim_end().parse().ok()
}
