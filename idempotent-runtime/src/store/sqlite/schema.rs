//! The table: made if it is missing, and never one that is newer than us or somebody else's.

use async_trait::async_trait;

use super::NAME;
use super::row::fetch;
use super::session::Session;
use super::writer::{Failure, Operation};
use crate::key::RecordKey;
use crate::store::{StoreError, StoreErrorKind};

const VERSION: u32 = 1;
const COMMENT: &str = "-- idempotent-runtime schema ";

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(
        "it has schema {0}, and this release knows schema {VERSION}: a newer release has made it"
    )]
    Newer(u32),
    #[error("there is a table of that name that this crate has not made")]
    Stranger,
}

pub(super) struct Migrate;

#[async_trait]
impl Operation for Migrate {
    type Output = ();

    async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let Session {
            connection,
            statements,
            ..
        } = session;
        sqlx::query(statements.create_table.clone())
            .execute(&mut *connection)
            .await?;
        // None: it is a view.
        let made_with: Option<String> = sqlx::query_scalar(include_str!("sql/schema.sql"))
            .bind(statements.table.to_string())
            .fetch_optional(&mut *connection)
            .await?;
        is_usable(made_with.as_deref())?;
        sqlx::query(statements.create_index.clone())
            .execute(&mut *connection)
            .await?;
        // Whatever else may be wrong with it is found out now and not by the first claim.
        fetch(
            connection,
            statements.get.clone(),
            &RecordKey::from_bytes([0; 32]),
        )
        .await?;
        Ok(())
    }
}

fn is_usable(made_with: Option<&str>) -> Result<(), StoreError> {
    let cause = match made_with.and_then(version) {
        Some(VERSION) => return Ok(()),
        Some(version) => Unusable::Newer(version),
        None => Unusable::Stranger,
    };
    Err(StoreError::new(NAME, StoreErrorKind::Rejected).with_source(cause))
}

fn version(made_with: &str) -> Option<u32> {
    let (_, behind) = made_with.split_once(COMMENT)?;
    behind.lines().next()?.trim_end().parse().ok()
}
