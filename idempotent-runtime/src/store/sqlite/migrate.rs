//! Making the table.

use async_trait::async_trait;

use super::error::Undone;
use super::job::WriteOperation;
use super::row::fetch;
use super::schema::check;
use super::session::WriteSession;
use crate::key::RecordKey;

pub(super) struct Migrate;

#[async_trait]
impl WriteOperation for Migrate {
    type Output = ();

    const NEEDS_TABLE: bool = false;

    async fn run(self, session: &mut WriteSession) -> Result<(), Undone> {
        let create_table = session.statements.create_table.clone();
        sqlx::query(create_table)
            .execute(&mut session.connection)
            .await?;
        check(&mut session.connection, &session.statements.table).await??;
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
