//! [`Target`]: how a tool names a store, by URL and by the table or prefix.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

#[cfg(any(
    feature = "memory",
    feature = "redis",
    feature = "postgres",
    feature = "sqlite",
    feature = "mysql"
))]
use super::connect::Scheme;
use super::{Finding, Store, StoreError};
use crate::error::{Error, ErrorKind};
use crate::key::RecordKey;

/// A store, named by its URL and by the table or prefix in it: for tools, which look at a store without changing it,
/// and migrate only when told to.
///
/// [`connect`](super::connect()) is for services: it migrates. [`open`](Self::open) never creates anything.
///
/// ```no_run
/// use idempotent_runtime::Idempotency;
/// use idempotent_runtime::store::Target;
///
/// # async fn example() -> Result<(), idempotent_runtime::Error> {
/// let target = Target::new("postgres://app@db.example.com/shop").table("payment_keys");
/// let idempotency = Idempotency::builder(target.open().await?).secret_check(false).build();
/// # drop(idempotency);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Target {
    pub(super) url: String,
    pub(super) table: Option<String>,
    pub(super) schema: Option<String>,
    pub(super) prefix: Option<String>,
}

/// What a store has besides its operations. Each store has it in a file `target`.
#[async_trait]
pub(super) trait Named: Store {
    /// Whether the server lets us in, and if not, why.
    async fn probe(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn migrate(&self) -> Result<(), Error> {
        Ok(())
    }

    fn migrations(&self) -> Option<String> {
        None
    }

    async fn check(&self) -> Result<Vec<Finding>, StoreError> {
        Ok(Vec::new())
    }

    fn into_store(self: Box<Self>) -> Arc<dyn Store>;
}

impl Target {
    /// The store that a URL names, with the default table or prefix. [`connect`](super::connect()) lists the URLs.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            table: None,
            schema: None,
            prefix: None,
        }
    }

    /// Another table than `idempotency_records`, as in the `with_table` of the SQL stores.
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = Some(name.into());
        self
    }

    /// The schema that the table is in, as in `PostgresStore::with_schema`.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = Some(name.into());
        self
    }

    /// The prefix of all keys, as in `RedisStore::with_prefix`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Connects to the store. Its table must exist: nothing is created or migrated.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotMigrated`] if there is no table (for SQLite, no file). [`ErrorKind::InvalidName`] if the table,
    /// schema or prefix is not a valid name, or this kind of store has none. Otherwise as
    /// [`connect`](super::connect()).
    pub async fn open(&self) -> Result<Arc<dyn Store>, Error> {
        let named = self.named(Missing::StaysMissing)?;
        named.probe().await?;
        let store = named.into_store();
        must_be_migrated(&*store).await?;
        Ok(store)
    }

    /// Creates the table of a SQL store if it is missing. The other stores have nothing to create.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and as the store's `migrate`.
    pub async fn migrate(&self) -> Result<(), Error> {
        let named = self.named(Missing::IsCreated)?;
        named.probe().await?;
        named.migrate().await
    }

    /// The statements that [`migrate`](Self::migrate) runs if there is no table; `None` for a store that needs none.
    /// Makes no connection. (It is asynchronous because a pool of connections needs a runtime.)
    ///
    /// # Errors
    ///
    /// The errors of [`open`](Self::open) about the URL and the names.
    pub async fn migrations(&self) -> Result<Option<String>, Error> {
        Ok(self.named(Missing::IsCreated)?.migrations())
    }

    /// Checks the store: its server and settings, its table and rights, its clock. Findings include what is good, and a
    /// server or table that cannot be used. Changes nothing.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), except that a missing table is a finding.
    pub async fn check(&self) -> Result<Vec<Finding>, Error> {
        let named = self.named(Missing::StaysMissing)?;
        named.probe().await?;
        named.check().await.map_err(|cause| {
            Error::new(ErrorKind::Store, "the store cannot be checked").with_source(cause)
        })
    }

    /// What is named. Nothing is connected.
    #[cfg_attr(
        not(feature = "sqlite"),
        expect(unused_variables, reason = "no other store creates its database")
    )]
    fn named(&self, missing: Missing) -> Result<Box<dyn Named>, Error> {
        match super::connect::scheme(&self.url)? {
            #[cfg(feature = "memory")]
            Scheme::Memory => {
                self.must_have_only(&[])?;
                let store = super::memory::MemoryStore::connect(&self.url)?;
                Ok(Box::new(store))
            }
            #[cfg(feature = "redis")]
            Scheme::Redis => Ok(Box::new(super::redis::RedisStore::of_target(self)?)),
            #[cfg(feature = "postgres")]
            Scheme::Postgres => Ok(Box::new(super::postgres::PostgresStore::of_target(self)?)),
            #[cfg(feature = "sqlite")]
            Scheme::Sqlite => Ok(Box::new(super::sqlite::SqliteStore::of_target(
                self, missing,
            )?)),
            #[cfg(feature = "mysql")]
            Scheme::MySql => Ok(Box::new(super::mysql::MySqlStore::of_target(self)?)),
        }
    }
}

#[cfg(any(
    feature = "memory",
    feature = "redis",
    feature = "postgres",
    feature = "sqlite",
    feature = "mysql"
))]
impl Target {
    /// Which of `table`, `schema` and `prefix` this kind of store has.
    pub(super) fn must_have_only(&self, parts: &[&str]) -> Result<(), Error> {
        let chosen = [
            ("table", &self.table),
            ("schema", &self.schema),
            ("prefix", &self.prefix),
        ];
        let surplus =
            |(part, name): &&(&str, &Option<String>)| name.is_some() && !parts.contains(part);
        match chosen.iter().find(surplus) {
            Some((part, _)) => {
                let message = format!("this kind of store has no {part} that can be chosen");
                Err(Error::new(ErrorKind::InvalidName, message))
            }
            None => Ok(()),
        }
    }
}

/// What becomes of a database that is missing, where a store can create it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    StaysMissing,
    IsCreated,
}

#[cfg(feature = "memory")]
#[async_trait]
impl Named for super::memory::MemoryStore {
    fn into_store(self: Box<Self>) -> Arc<dyn Store> {
        Arc::new(*self)
    }
}

/// Reads a record that does not exist: whatever is wrong with the table is found out.
async fn must_be_migrated(store: &dyn Store) -> Result<(), Error> {
    let no_key = RecordKey::from_bytes([0; 32]);
    let Err(cause) = store.get(&no_key).await else {
        return Ok(());
    };
    let name = store.name();
    Err(match is_not_migrated(&cause) {
        true => {
            let message = format!("the {name} store has no table yet: it was not migrated");
            Error::new(ErrorKind::NotMigrated, message)
        }
        false => {
            let message = format!("the {name} store cannot be used");
            Error::new(ErrorKind::Store, message).with_source(cause)
        }
    })
}

fn is_not_migrated(error: &(dyn std::error::Error + 'static)) -> bool {
    #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
    {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<super::sql::NotMigrated>() {
                return true;
            }
            cause = error.source();
        }
    }
    let _ = error;
    false
}

/// Without the URL, which can contain a password.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("table", &self.table)
            .field("schema", &self.schema)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
