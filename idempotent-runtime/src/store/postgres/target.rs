//! What a [`Target`] needs of the store besides its operations.

use std::sync::Arc;

use async_trait::async_trait;

use super::{PostgresStore, check, connector};
use crate::error::Error;
use crate::store::target::Named;
use crate::store::{Finding, Store, StoreError, Target};

impl PostgresStore {
    /// What a URL names. Nothing is connected.
    pub(super) fn of_url(url: &str) -> Result<Self, Error> {
        Ok(Self::new(connector::pool(connector::parse(url)?)))
    }

    pub(in crate::store) fn of_target(target: &Target) -> Result<Self, Error> {
        target.must_have_only(&["table", "schema"])?;
        let mut store = Self::of_url(&target.url)?;
        if let Some(schema) = &target.schema {
            store = store.with_schema(schema);
        }
        match &target.table {
            Some(table) => store.with_table(table),
            None => Ok(store),
        }
    }

    /// Looks at the server (its version, whether it is the primary, whether its settings keep what was acknowledged, its
    /// clock), at the table, its indexes and this user's rights, and for a pooler in between. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when there is no connection, or the server cannot be asked.
    pub async fn check(&self) -> Result<Vec<Finding>, StoreError> {
        check::check(self.records.connector(), self.records.place()).await
    }
}

#[async_trait]
impl Named for PostgresStore {
    async fn probe(&self) -> Result<(), Error> {
        connector::probe(&self.records.connector().options()).await
    }

    async fn migrate(&self) -> Result<(), Error> {
        Self::migrate(self).await
    }

    fn migrations(&self) -> Option<String> {
        Some(Self::migrations(self))
    }

    async fn check(&self) -> Result<Vec<Finding>, StoreError> {
        Self::check(self).await
    }

    fn into_store(self: Box<Self>) -> Arc<dyn Store> {
        Arc::new(*self)
    }
}
