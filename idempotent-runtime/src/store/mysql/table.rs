//! Where the records are: a table, always named with its database, so that no `USE` moves it.

use std::fmt;

use sha2::{Digest as _, Sha256};
use sqlx::mysql::MySqlConnectOptions;

use crate::key::RecordKey;
use crate::store::sql::TableName;

#[derive(Clone)]
pub(super) struct QualifiedTable {
    /// Missing when the pool's options name none: then nothing can be found, and the server says so.
    database: Option<String>,
    name: TableName,
}

impl QualifiedTable {
    pub(super) fn new(options: &MySqlConnectOptions, name: TableName) -> Self {
        Self {
            database: options.get_database().map(str::to_owned),
            name,
        }
    }

    pub(super) fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    pub(super) fn name(&self) -> &TableName {
        &self.name
    }

    /// A statement in which `{records}` stands for the table with its database, and `{table}` for its bare
    /// name.
    pub(super) fn in_statement(&self, template: &str) -> String {
        let records = match &self.database {
            Some(database) => format!("`{}`.`{}`", database.replace('`', "``"), self.name),
            None => format!("`{}`", self.name),
        };
        let statement = self.name.in_statement(template);
        statement.replace("{records}", &records)
    }

    /// The name of a lock, which the whole server shares and which may have 64 characters: of a record, or
    /// of the table.
    pub(super) fn lock_name(&self, key: Option<&RecordKey>) -> String {
        let mut digest = Sha256::new();
        digest.update(self.database().unwrap_or_default());
        digest.update([0]);
        digest.update(self.name.to_string());
        digest.update([0]);
        if let Some(key) = key {
            digest.update(key.as_bytes());
        }
        let digest = digest.finalize();
        let hex = digest.iter().take(24).map(|byte| format!("{byte:02x}"));
        hex.fold("idempotent-".to_owned(), |name, byte| name + &byte)
    }
}

impl fmt::Display for QualifiedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}
