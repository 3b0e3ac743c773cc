//! What a [`Target`] needs of the store besides its operations.

use std::sync::Arc;

use async_trait::async_trait;

use super::{SqliteStore, check, url};
use crate::error::Error;
use crate::store::sql::TableName;
use crate::store::target::{Missing, Named};
use crate::store::{Finding, Store, StoreError, Target};

impl SqliteStore {
    /// Nothing is opened.
    pub(in crate::store) fn of_target(target: &Target, missing: Missing) -> Result<Self, Error> {
        target.must_have_only(&["table"])?;
        let options = match missing {
            Missing::IsCreated => url::options_of(&target.url)?,
            Missing::StaysMissing => url::options_of_existing(&target.url)?,
        };
        let table = match &target.table {
            Some(table) => TableName::new(table)?,
            None => TableName::default(),
        };
        let store = Self::with_options(options, table);
        Ok(match missing {
            Missing::IsCreated => store,
            Missing::StaysMissing => store.looking(),
        })
    }

    /// Looks at the database (its mode, its table, the indexes) and at the file's permissions. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the file is not there, or cannot be opened.
    pub async fn check(&self) -> Result<Vec<Finding>, StoreError> {
        check::check(&self.options, &self.table).await
    }
}

#[async_trait]
impl Named for SqliteStore {
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
