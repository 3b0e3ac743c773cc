//! Records in MySQL or MariaDB: for services that have such a database already.
//!
//! # What it guarantees
//!
//! Every rule of [`Store`], between any number of processes that use one server, by that server's clock. The table's
//! primary key decides which claim is first. Every other write to a record is one `UPDATE` or `DELETE` that checks all
//! its conditions under the row's lock; the number of matched rows is the answer. Operations on many records (renewals,
//! releases) are one transaction, which skips rows that another session has locked: those are
//! [`Busy`](StoreErrorKind::Busy), and do not delay the others.
//!
//! MySQL 8.0 and newer, MariaDB 10.6 and newer.
//!
//! ```no_run
//! use idempotent_runtime::Idempotency;
//! use idempotent_runtime::store::mysql::MySqlStore;
//!
//! # async fn example(pool: sqlx::MySqlPool) -> Result<(), idempotent_runtime::Error> {
//! // Creates the table if it is missing:
//! let store = MySqlStore::connect("mysql://payments:secret@10.0.0.5/payments").await?;
//!
//! // Or with the application's pool, which `#[tx]` uses:
//! let store = MySqlStore::new(pool).with_table("payment_keys")?;
//! store.migrate().await?;
//!
//! let idempotency = Idempotency::new(store);
//! # Ok(())
//! # }
//! ```
//!
//! # Connections
//!
//! The store has its own connections, independent of the application's pool. They are opened when needed, with the
//! pool's options, and closed after 10 idle minutes, or after 30 minutes in any case. Each runtime of a process needs at most:
//!
//! | | connections | when all are in use |
//! | --- | --- | --- |
//! | claims, replays, completions, steps, operators, purging | [10](MySqlStore::with_connections) | a call waits; if a claim has waited for twice the store timeout, the request gets a 503, and nothing has happened |
//! | renewals of leases | 2 | only renewals wait |
//! | transactions (`#[tx]`) | the pool's, one for each that runs | a request waits for the pool, and gets a 503 after the store timeout |
//!
//! So ten processes with one runtime and a pool of ten each need 220 of the server's `max_connections` (151 by default) when all are busy.
//! The store uses only the options of the pool: `after_connect` does not run on the store's connections, and closing
//! the pool does not close them; they end with the store.
//!
//! # What survives what
//!
//! | | with the settings below | without |
//! | --- | --- | --- |
//! | the application's process ends | everything | everything |
//! | the server's process ends | everything | everything with `innodb_flush_log_at_trx_commit` 1 or 2 |
//! | power cut, crash of the system | everything | about one second of records is lost, and their keys **run again** |
//! | failover to a replica | everything that was acknowledged | what the replica had not received is lost |
//!
//! The settings for payments:
//!
//! * `innodb_flush_log_at_trx_commit = 1` and `sync_binlog = 1`. The first is the default of both
//!   servers; the second is MySQL's, and 0 on MariaDB.
//! * With replicas that may take over: semi-synchronous replication with `AFTER_SYNC`. **It falls back to asynchronous
//!   by itself** if no replica answers within `rpl_semi_sync_source_timeout` (MariaDB: `rpl_semi_sync_master_timeout`;
//!   10 s): set the timeout so high that this never happens. A server without replicas then accepts no claims, instead
//!   of losing some. Sessions of calls that timed out stay on such a server: [choosing a
//!   store](crate::choosing_a_store#connections) says what to do about that.
//! * `binlog_format = ROW` or `MIXED`. `InnoDB` refuses `STATEMENT` under `READ COMMITTED`.
//! * All connections go to the **primary**. Behind a proxy that sends reads to replicas, replays and abandoned claims
//!   are seen late. No key runs twice because of that, because only the primary writes.
//!
#![doc = include_str!("guide.md")]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{MySqlConnection, MySqlPool};

use self::batches::{BATCH, Ending};
use self::error::{NAME, of_server};
use self::lane::on_lane;
use self::records::Records;
use self::transaction::MySqlTransactions;
#[cfg(doc)]
use super::StoreErrorKind;
use super::finding;
use super::listing::InOrder;
use super::sql::{TableName, patience};
use super::transaction::Begin;
use super::{
    Claim, ClaimRequest, Completion, ListCursor, ListFilter, Listing, Progress, Purged, Release,
    Renewal, Renewed, Store, StoreError, Subscription, Transactor,
};
use crate::error::{Error, ErrorKind};
use crate::key::RecordKey;
use crate::record::{Owner, Record, StoredResponse};

mod batches;
mod check;
mod connect;
mod error;
mod lane;
mod many;
mod operations;
mod pooled;
mod records;
mod row;
mod schema;
mod server;
mod statements;
mod table;
mod target;
mod transaction;

/// Records in a table of MySQL or MariaDB. See the [module](self).
///
/// Clones share the connections.
#[derive(Clone)]
pub struct MySqlStore(Records);

impl MySqlStore {
    /// A store in the table `idempotency_records` of the database that the pool's options name.
    ///
    /// The table must exist: see [`migrate`](Self::migrate). The pool is used for transactions (`#[tx]`) only: see
    /// [above](self#connections).
    #[must_use]
    pub fn new(pool: MySqlPool) -> Self {
        Self(Records::new(pool))
    }

    /// The same store in another table.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`] unless the name is 1 to 48 letters, digits and underscores and
    /// does not begin with a digit.
    pub fn with_table(self, name: &str) -> Result<Self, Error> {
        Ok(Self(self.0.with_table(TableName::new(name)?)))
    }

    /// The most connections of the store's own for each runtime, not counting two more for renewals. At least 1, by default 10.
    #[must_use]
    pub fn with_connections(self, connections: u32) -> Self {
        Self(self.0.with_connections(connections))
    }

    /// Connects to the database that a URL names, and [migrates](Self::migrate) the table. It logs
    /// settings of the server that [can lose records](Self::check).
    ///
    /// For transactions it makes a pool of at most ten connections, with suitable settings: see
    /// [above](self#deployment). For other settings, make the pool yourself.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`] if the text is not a URL or names no database. [`ErrorKind::Store`] if the server
    /// cannot be reached, refuses the connection, or the table cannot be used; the [source](std::error::Error::source)
    /// says why. No message contains the password.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let store = Self::of_url(url)?;
        connect::probe(&store.0.pool.connect_options()).await?;
        store.migrate().await?;
        store.log_lossy_settings().await;
        Ok(store)
    }

    /// Creates the table if it is missing. Call it at every start; any number of processes may do so at once.
    ///
    /// An existing table is not changed, so only the first start needs the right to create one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`] if the server cannot be reached or refuses, if there is another table of that name, or if
    /// the table has the schema of another release.
    pub async fn migrate(&self) -> Result<(), Error> {
        let no_connection =
            |error| Error::new(ErrorKind::Store, "mysql store: no connection").with_source(error);
        let lanes = self.0.lanes().map_err(no_connection)?;
        let connection = lanes.calls.fresh().await.map_err(no_connection);
        // Never given back: closing it is what frees the lock, also when this is dropped half-way.
        schema::migrate(&mut *connection?, &self.0.table, &self.0.statements).await
    }

    /// What cannot be asked is no reason not to start: a user without the rights, or a proxy that hides them.
    async fn log_lossy_settings(&self) {
        let asked = async {
            let lanes = self.0.lanes()?;
            let mut connection = lanes.calls.fresh().await?;
            let settings = server::settings(&mut connection).await;
            settings.map_err(|error| of_server(error).error)
        };
        match asked.await {
            Ok(settings) => finding::log(NAME, &settings),
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the settings of the mysql server are unknown"
                );
            }
        }
    }

    /// The statement that [`migrate`](Self::migrate) runs if there is no table: for a database administrator, or a
    /// migration of `sqlx migrate` or another tool. `migrate` then finds the table and leaves it alone.
    #[must_use]
    pub fn migrations(&self) -> String {
        self.0.statements.migrations()
    }

    async fn give_up(&self, owners: &[Owner], ending: Ending) -> Vec<Result<Release, StoreError>> {
        let mut results = Vec::with_capacity(owners.len());
        for owners in owners.chunks(BATCH) {
            let given_up = on_lane!(self.0, calls, give_up_on(owners, ending));
            results.extend(given_up.unwrap_or_else(|error| vec![Err(error); owners.len()]));
        }
        results
    }
}

#[async_trait]
impl Store for MySqlStore {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        on_lane!(self.0, calls, claim_on(request))
    }

    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        let mut results = Vec::with_capacity(renewals.len());
        let shortest = renewals.iter().map(|renewal| renewal.lease).min();
        let patience = shortest.map(patience);
        for renewals in renewals.chunks(BATCH) {
            let renewed = on_lane!(self.0, renewals, patience, renew_on(renewals));
            results.extend(renewed.unwrap_or_else(|error| vec![Err(error); renewals.len()]));
        }
        results
    }

    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        on_lane!(self.0, calls, save_progress_on(owner, offset, bytes))
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        on_lane!(self.0, calls, complete_on(owner, response, ttl))
    }

    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.give_up(owners, Ending::Release).await
    }

    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.give_up(owners, Ending::Abandon).await
    }

    async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let give = || self.0.statements.give_grace(key, attempt, grace, retention);
        on_lane!(self.0, calls, has_matched(give))
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let row = on_lane!(self.0, calls, read(self.0.statements.get(key)))?;
        Ok(row.as_ref().map(row::record).transpose()?.flatten())
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        on_lane!(self.0, calls, remove_on(key))
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        let mut purged = Purged::default();
        while purged.records < limit {
            let most = (limit - purged.records).min(BATCH);
            let some = on_lane!(self.0, calls, purge_on(most));
            let some = match some {
                Ok(some) => some,
                Err(error) if purged.records == 0 => return Err(error),
                // What is purged already is to be told.
                Err(_) => break,
            };
            purged.records += some.records;
            purged.abandoned.extend(some.abandoned);
            if some.records < most {
                break;
            }
        }
        Ok(purged)
    }

    async fn list(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        let mut listing = InOrder::new(filter, cursor, limit, NAME)?;
        loop {
            let list = || self.0.statements.list(filter, &listing.after);
            let rows = on_lane!(self.0, calls, read_all(list()))?;
            if !listing.add(rows.iter().map(row::listed).collect()) {
                return Ok(listing.finish());
            }
        }
    }

    fn subscribe(&self, _: &RecordKey) -> Subscription {
        Subscription::none()
    }

    fn transactor(&self) -> Option<Transactor> {
        let begin: Arc<dyn Begin<MySqlConnection>> = Arc::new(MySqlTransactions(self.0.clone()));
        Some(begin.into())
    }
}

impl fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlStore")
            .field("table", self.0.table.name())
            .finish_non_exhaustive()
    }
}
