//! Looking at a database to which this store has not written: a tool that only looks changes nothing.
//!
//! The connections of the store put the file into WAL mode, and the one that writes waits for other writers. These have
//! the application's own options, read only, and wait for no writer. Each look has a connection of its own.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqlStr, SqliteConnection};

use super::error::store_error;
use super::row::{self, fetch};
use super::schema;
use super::time::Time;
use crate::key::RecordKey;
use crate::record::Record;
use crate::store::StoreError;
use crate::store::listing::Looked;
use crate::store::sql::TableName;

/// Opens connections that only look.
pub(super) struct Looker {
    options: SqliteConnectOptions,
    table: TableName,
}

impl Looker {
    /// At the database in this file.
    pub(super) fn new(options: &SqliteConnectOptions, file: &Path, table: &TableName) -> Self {
        let options = options.clone().filename(file);
        Self {
            options: options.create_if_missing(false).read_only(true),
            table: table.clone(),
        }
    }

    pub(super) async fn get(
        &self,
        get: SqlStr,
        key: &RecordKey,
    ) -> Result<Option<Record>, StoreError> {
        let mut connection = self.open().await?;
        let now = Time::now();
        let columns = fetch(&mut connection, get, key).await;
        drop(connection.close().await);
        row::record(columns.map_err(store_error)?, now)
    }

    pub(super) async fn list(
        &self,
        list: SqlStr,
        after: &RecordKey,
    ) -> Result<Vec<Looked<StoreError>>, StoreError> {
        let mut connection = self.open().await?;
        let listed = row::list(&mut connection, list, after).await;
        drop(connection.close().await);
        listed.map_err(store_error)
    }

    /// With a table that this release can use.
    async fn open(&self) -> Result<SqliteConnection, StoreError> {
        let mut connection = self.options.connect().await.map_err(store_error)?;
        let checked = schema::check(&mut connection, &self.table).await;
        checked.map_err(store_error)??;
        Ok(connection)
    }
}
