//! What an application can set of a store.

use super::PostgresStore;
use super::records::Records;
use super::schema::Place;
use crate::error::Error;
use crate::store::sql::TableName;

impl PostgresStore {
    /// The same store in another table.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName) unless the name is 1 to 48 letters, digits and underscores and
    /// does not begin with a digit. It is case-sensitive.
    pub fn with_table(self, name: &str) -> Result<Self, Error> {
        let place = Place {
            schema: self.records.place().schema.clone(),
            table: TableName::new(name)?,
        };
        Ok(self.anew(None, place))
    }

    /// The same store with its table in that schema, which must exist.
    ///
    /// Unless it is told, the schema is the first one of a fresh session's `search_path` that has the table;
    /// for a table that is not there yet, the first one that exists. It is looked up once.
    #[must_use]
    pub fn with_schema(self, name: &str) -> Self {
        let place = Place {
            schema: Some(name.to_owned()),
            table: self.records.place().table.clone(),
        };
        self.anew(None, place)
    }

    /// The most connections for claims and completions, of each runtime that uses the store; at least 2.
    /// Default: as many as the pool has, at most 10.
    #[must_use]
    pub fn with_connections(self, connections: u32) -> Self {
        let place = self.records.place().clone();
        self.anew(Some(connections), place)
    }

    /// Listens to nothing: waiters here poll.
    ///
    /// For `PgBouncer` in transaction mode, where `LISTEN` is of no use, and where the
    /// connection cannot be spared.
    #[must_use]
    pub fn without_notifications(self) -> Self {
        Self {
            notifications: None,
            ..self
        }
    }

    /// The same store for handlers that write by tokio-postgres: `#[tx]` uses this pool, and its handlers borrow a
    /// [`DeadpoolTransaction`](crate::store::postgres::DeadpoolTransaction). See [transactions by tokio-postgres](crate::store::postgres#transactions-by-tokio-postgres).
    ///
    /// The pool must lead to the store's database, with the rights that the store needs. That is looked at by
    /// [`Idempotency::transactions`](crate::Idempotency::transactions), and not here.
    #[cfg(feature = "tokio-postgres")]
    #[must_use]
    pub fn with_deadpool(self, pool: deadpool_postgres::Pool) -> Self {
        Self {
            deadpool: Some(pool),
            ..self
        }
    }

    fn anew(self, connections: Option<u32>, place: Place) -> Self {
        let connections = connections.unwrap_or_else(|| self.records.connections());
        let connector = self.records.connector().clone();
        let store = Self {
            #[cfg(feature = "tokio-postgres")]
            deadpool: self.deadpool,
            ..Self::of(Records::new(connector, connections, place))
        };
        match self.notifications {
            Some(_) => store.with_notifications(),
            None => store,
        }
    }
}
