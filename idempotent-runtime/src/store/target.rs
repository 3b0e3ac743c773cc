//! A store as a tool names it: by URL, and by the table or prefix in it.

use std::fmt;
use std::sync::Arc;

use super::connect::Scheme;
use super::{Finding, Store, StoreError};
use crate::error::{Error, ErrorKind};
use crate::key::RecordKey;

/// The store that a URL names, and which table or prefix in it: for tools, which look at a store without changing it
/// and migrate only when they are told to.
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
    url: String,
    table: Option<String>,
    schema: Option<String>,
    prefix: Option<String>,
}

/// What a URL names. Nothing is migrated.
enum Named {
    #[cfg(feature = "memory")]
    Memory(super::memory::MemoryStore),
    #[cfg(feature = "redis")]
    Redis(super::redis::RedisStore),
    #[cfg(feature = "postgres")]
    Postgres(super::postgres::PostgresStore),
    #[cfg(feature = "sqlite")]
    Sqlite(Box<super::sqlite::SqliteStore>),
    #[cfg(feature = "mysql")]
    MySql(super::mysql::MySqlStore),
}

impl Target {
    /// The store that a URL names, with the table and the prefix that it has by default. The URLs are those of
    /// [`connect`](super::connect()).
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

    /// What the names of keys begin with, as in `RedisStore::with_prefix`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Connects to the store, whose table must be there. Nothing is created, nothing is migrated.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotMigrated`] when there is no table, or no file for SQLite. [`ErrorKind::InvalidName`] for a table,
    /// schema or prefix that is no name, or that this kind of store does not have. Else as
    /// [`connect`](super::connect()).
    pub async fn open(&self) -> Result<Arc<dyn Store>, Error> {
        let named = self.named(Missing::StaysMissing)?;
        named.probe().await?;
        let store = named.into_store();
        must_be_migrated(&*store).await?;
        Ok(store)
    }

    /// Makes the table of a SQL store unless it is there. The other stores have nothing to make.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and as the store's `migrate`.
    pub async fn migrate(&self) -> Result<(), Error> {
        let named = self.named(Missing::IsCreated)?;
        named.probe().await?;
        named.migrate().await
    }

    /// The statements that [`migrate`](Self::migrate) runs where there is no table; `None` for a store that needs none.
    /// Nothing is connected. (Asynchronous, because a pool of connections needs a runtime.)
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open) that are about the URL and the names.
    pub async fn migrations(&self) -> Result<Option<String>, Error> {
        Ok(self.named(Missing::IsCreated)?.migrations())
    }

    /// What there is to be said about the store: its server and settings, its table and rights, its clock. What is good
    /// too, and a server or table that cannot be used. Changes nothing.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), but for a missing table, which is a finding.
    pub async fn check(&self) -> Result<Vec<Finding>, Error> {
        let named = self.named(Missing::StaysMissing)?;
        named.probe().await?;
        named.check().await.map_err(|cause| {
            Error::new(ErrorKind::Store, "the store cannot be checked").with_source(cause)
        })
    }

    fn named(&self, missing: Missing) -> Result<Named, Error> {
        let url = self.url.as_str();
        Ok(match super::connect::scheme(url)? {
            #[cfg(feature = "memory")]
            Scheme::Memory => {
                self.must_have_only([false, false, false])?;
                Named::Memory(super::memory::MemoryStore::connect(url)?)
            }
            #[cfg(feature = "redis")]
            Scheme::Redis => {
                self.must_have_only([false, false, true])?;
                let store = super::redis::RedisStore::of_url(url)?;
                Named::Redis(match &self.prefix {
                    Some(prefix) => store.with_prefix(prefix)?,
                    None => store,
                })
            }
            #[cfg(feature = "postgres")]
            Scheme::Postgres => {
                self.must_have_only([true, true, false])?;
                let store = super::postgres::PostgresStore::of_url(url)?;
                let store = match &self.schema {
                    Some(schema) => store.with_schema(schema),
                    None => store,
                };
                Named::Postgres(match &self.table {
                    Some(table) => store.with_table(table)?,
                    None => store,
                })
            }
            #[cfg(feature = "sqlite")]
            Scheme::Sqlite => {
                self.must_have_only([true, false, false])?;
                let store = match missing {
                    Missing::IsCreated => super::sqlite::SqliteStore::of_url(url)?,
                    Missing::StaysMissing => super::sqlite::SqliteStore::of_existing(url)?,
                };
                Named::Sqlite(Box::new(match &self.table {
                    Some(table) => store.with_table(table)?,
                    None => store,
                }))
            }
            #[cfg(feature = "mysql")]
            Scheme::MySql => {
                self.must_have_only([true, false, false])?;
                let store = super::mysql::MySqlStore::of_url(url)?;
                Named::MySql(match &self.table {
                    Some(table) => store.with_table(table)?,
                    None => store,
                })
            }
        })
    }

    /// Which of a table, a schema and a prefix this kind of store has.
    fn must_have_only(&self, [table, schema, prefix]: [bool; 3]) -> Result<(), Error> {
        let chosen = [
            (&self.table, table, "a table with a name of its own"),
            (&self.schema, schema, "a schema"),
            (&self.prefix, prefix, "a prefix"),
        ];
        match chosen.iter().find(|(name, has, _)| name.is_some() && !has) {
            Some((.., what)) => {
                let message = format!("this kind of store does not have {what}");
                Err(Error::new(ErrorKind::InvalidName, message))
            }
            None => Ok(()),
        }
    }
}

/// What becomes of a database that is missing, where a store can create it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    StaysMissing,
    IsCreated,
}

impl Named {
    /// Whether the server lets us in, and if not, why.
    async fn probe(&self) -> Result<(), Error> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(_) => Ok(()),
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.probe().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.probe().await,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Ok(()),
            #[cfg(feature = "mysql")]
            Self::MySql(store) => store.probe().await,
        }
    }

    async fn migrate(&self) -> Result<(), Error> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(_) => Ok(()),
            #[cfg(feature = "redis")]
            Self::Redis(_) => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.migrate().await,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => store.migrate().await,
            #[cfg(feature = "mysql")]
            Self::MySql(store) => store.migrate().await,
        }
    }

    async fn check(&self) -> Result<Vec<Finding>, StoreError> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(_) => Ok(Vec::new()),
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.check().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.check().await,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => store.check().await,
            #[cfg(feature = "mysql")]
            Self::MySql(store) => store.check().await,
        }
    }

    fn migrations(&self) -> Option<String> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(_) => None,
            #[cfg(feature = "redis")]
            Self::Redis(_) => None,
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Some(store.migrations()),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => Some(store.migrations()),
            #[cfg(feature = "mysql")]
            Self::MySql(store) => Some(store.migrations()),
        }
    }

    fn into_store(self) -> Arc<dyn Store> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(store) => Arc::new(store),
            #[cfg(feature = "redis")]
            Self::Redis(store) => Arc::new(store),
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => Arc::new(store),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => Arc::new(*store),
            #[cfg(feature = "mysql")]
            Self::MySql(store) => Arc::new(store),
        }
    }
}

/// Reads a record that nobody has: whatever is wrong with the table is found out.
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
