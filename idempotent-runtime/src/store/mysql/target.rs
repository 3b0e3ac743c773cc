//! What a [`Target`] needs of the store besides its operations.

use std::sync::Arc;

use async_trait::async_trait;

use super::error::of_server;
use super::{MySqlStore, check, connect};
use crate::error::Error;
use crate::store::target::Named;
use crate::store::{Finding, Store, StoreError, Target};

impl MySqlStore {
    /// What a URL names. Nothing is connected.
    pub(super) fn of_url(url: &str) -> Result<Self, Error> {
        Ok(Self::new(connect::pool(connect::parse(url)?)))
    }

    pub(in crate::store) fn of_target(target: &Target) -> Result<Self, Error> {
        target.must_have_only(&["table"])?;
        let store = Self::of_url(&target.url)?;
        match &target.table {
            Some(table) => store.with_table(table),
            None => Ok(store),
        }
    }

    /// Looks at the server (its version, whether it takes writes, whether its settings keep what was acknowledged, its
    /// clock), at the table, its indexes and this user's rights. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when there is no connection, or the server cannot be asked.
    pub async fn check(&self) -> Result<Vec<Finding>, StoreError> {
        let lanes = self.0.lanes()?;
        let mut connection = lanes.calls.fresh().await?;
        let findings = check::check(&mut connection, &self.0.table).await;
        findings.map_err(|error| of_server(error).error)
    }
}

#[async_trait]
impl Named for MySqlStore {
    async fn probe(&self) -> Result<(), Error> {
        connect::probe(&self.0.pool.connect_options()).await
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
