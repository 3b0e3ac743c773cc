//! Records in PostgreSQL: durable, and shared by every process that uses the table.
//!
//! # The problem, and what is guaranteed
//!
//! The usual SQL for this is wrong or slow. A `SELECT` followed by an `INSERT` lets two requests through. `INSERT ...
//! ON CONFLICT DO UPDATE` locks the row for each replay, which is a write, so a replay waits for the disk. `DO NOTHING`
//! combined with a `SELECT` returns no row at all if it loses a race. So a claim is a plain `INSERT ... ON CONFLICT DO
//! NOTHING`. Only if a record exists already, a function in the database ([`migrate`](PostgresStore::migrate) installs
//! it) decides what the record means. The result:
//!
//! * every rule of [`Store`] holds, between all processes that share the table;
//! * a replay is two round trips; it reads one row and writes nothing: no transaction id, no WAL, no fsync;
//! * a first claim and a completion are one round trip and one commit each, or less than one if many arrive at once
//!   ([below](self#groups)), and a renewal touches no index;
//! * a record that another transaction has locked delays no other record's renewal, release or completion;
//! * all times are the database server's.
//!
//! PostgreSQL 12 or newer.
//!
//! ```no_run
//! use idempotent_runtime::Idempotency;
//! use idempotent_runtime::store::postgres::PostgresStore;
//! use sqlx::postgres::PgPoolOptions;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // With a pool of its own:
//! let store = PostgresStore::connect("postgres://app@db.internal/payments").await?;
//!
//! // Or with the application's pool, which `#[tx]` uses:
//! let pool = PgPoolOptions::new()
//!     .connect("postgres://app@db.internal/payments")
//!     .await?;
//! let store = PostgresStore::new(pool).with_table("payment_keys")?;
//! store.migrate().await?;
//!
//! let idempotency = Idempotency::new(store);
//! # drop(idempotency);
//! # Ok(())
//! # }
//! ```
//!
//! # What survives what
//!
//! | event | with the settings below | otherwise |
//! | --- | --- | --- |
//! | an application process dies | everything; its claims are abandoned when their leases end | the same |
//! | the server dies, or loses power | everything that was acknowledged | `synchronous_commit = off`: the last fraction of a second is lost, and **those requests run again**; `fsync = off`: anything may be lost |
//! | failover to a replica | everything that was acknowledged | asynchronous replication: what the replica had not received is lost, and **runs again** |
//! | restoring a backup, or point-in-time recovery | what the backup has; every later key is lost, and **runs again** | the same |
//!
//! For payments: `fsync = on`, `full_page_writes = on` and `synchronous_commit = on`. These are the defaults; do not
//! switch them off for the role or the database ([`migrate`](PostgresStore::migrate) warns if they are off). With
//! replicas, `synchronous_standby_names` must name at least one standby that a failover promotes. Never make the table
//! `UNLOGGED`: a crash empties it.
//!
#![doc = include_str!("guide.md")]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{PgConnection, PgPool};

use self::connector::Connector;
#[cfg(feature = "tokio-postgres")]
use self::deadpool::DeadpoolTransactions;
use self::error::NAME;
use self::notifications::PgNotifications;
use self::records::Records;
use self::schema::Place;
use self::statements::{Statements, statement};
use self::transaction::PgTransactions;
use super::listing::{InOrder, LOOK};
use super::sql::{MOST_PATIENCE, TableName, micros, patience};
use super::transaction::Begin;
use super::{
    Claim, ClaimRequest, Completion, ListCursor, ListFilter, Listing, Progress, Purged, Release,
    Renewal, Renewed, Store, StoreError, StoreErrorKind, Subscription, Transactor,
};
use crate::error::Error;
use crate::key::RecordKey;
use crate::record::{Owner, Record, StoredResponse};

mod check;
mod condition;
mod connector;
#[cfg(feature = "tokio-postgres")]
mod deadpool;
mod error;
mod grouped;
mod groups;
mod lane;
mod lanes;
mod notifications;
mod records;
mod row;
mod schema;
mod server;
mod settings;
mod statements;
mod target;
mod transaction;

#[cfg(feature = "tokio-postgres")]
pub use self::deadpool::DeadpoolTransaction;

/// The most connections for claims and completions, unless it is told otherwise.
///
/// Not more: what finds none free goes in a group. For 16 callers ten are 1.3 times as fast as 16 on a local disk, and 0.9
/// times where a commit takes 3 ms (`commit_delay`).
const MOST_CONNECTIONS: u32 = 10;

/// Records in a table of PostgreSQL. See the [module](self).
pub struct PostgresStore {
    records: Arc<Records>,
    /// `None`: waiters here poll.
    notifications: Option<PgNotifications>,
    /// The pool that `#[tx]` uses instead of the store's.
    #[cfg(feature = "tokio-postgres")]
    deadpool: Option<deadpool_postgres::Pool>,
}

impl PostgresStore {
    /// A store in the table `idempotency_records` of the pool's database.
    ///
    /// The pool is the application's. Only `#[tx]` uses it; the store opens its own connections with the pool's connect
    /// options ([pool sizing](self#connections)). No connection is made yet.
    ///
    /// [`migrate`](Self::migrate) must have been called once for the table.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        let place = Place {
            schema: None,
            table: TableName::default(),
        };
        let connections = pool.options().get_max_connections().min(MOST_CONNECTIONS);
        Self::of(Records::new(Connector::new(pool), connections, place)).with_notifications()
    }

    fn of(records: Records) -> Self {
        Self {
            records: Arc::new(records),
            notifications: None,
            #[cfg(feature = "tokio-postgres")]
            deadpool: None,
        }
    }

    fn with_notifications(self) -> Self {
        let notifications = Some(PgNotifications::new(Arc::clone(&self.records)));
        Self {
            notifications,
            ..self
        }
    }

    /// A store with a pool of its own for `#[tx]`, at most 10 connections, in the table
    /// `idempotency_records`, which is [migrated](Self::migrate).
    ///
    /// The URL is sqlx's: `postgres://user:password@host:port/database?sslmode=require`. TLS takes
    /// one of sqlx's `tls-*` features.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`](crate::ErrorKind::InvalidUrl); [`ErrorKind::Store`](crate::ErrorKind::Store) when there is no connection within 5 seconds
    /// or [`migrate`](Self::migrate) fails.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let store = Self::of_url(url)?;
        connector::probe(&store.records.connector().options()).await?;
        store.migrate().await?;
        Ok(store)
    }

    /// Creates the table, its indexes, functions and triggers, unless they exist.
    ///
    /// Any number of processes may call it at once. It logs a warning if the server's settings can lose acknowledged
    /// commits, if the table is unlogged or lacks an index, or if this user lacks a right.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) when the server cannot be reached or refuses, when another release has
    /// migrated the table, or when there is a table of that name that is not this crate's.
    pub async fn migrate(&self) -> Result<(), Error> {
        self.records.migrate().await
    }

    /// The statements that [`migrate`](Self::migrate) runs if there is no table: for a database administrator, or a
    /// migration of `sqlx migrate` or another tool. `migrate` then finds the table and leaves it alone.
    ///
    /// They use the schema of [`with_schema`](Self::with_schema), or `public` without it, and the table of
    /// [`with_table`](Self::with_table). Run them in one transaction.
    #[must_use]
    pub fn migrations(&self) -> String {
        schema::migrations(self.records.place())
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        row::claim(&self.records.claim(request).await?)
    }

    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        let Some(shortest) = renewals.iter().map(|renewal| renewal.lease).min() else {
            return Vec::new();
        };
        let leases = renewals.iter().map(|renewal| micros(renewal.lease));
        let retentions = renewals.iter().map(|renewal| micros(renewal.retention));
        let times = Some((leases.collect(), retentions.collect()));
        let owners = renewals.iter().map(|renewal| &renewal.owner);
        let renewing = self
            .records
            .of_leases(owners, |sql| &sql.renew, times, patience(shortest));
        let (done, lost) = (Renewed::Renewed, Renewed::Lost);
        row::each(renewing.await, renewals.len(), done, lost)
    }

    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        let too_large = |error| StoreError::new(NAME, StoreErrorKind::TooLarge).with_source(error);
        i32::try_from(offset.saturating_add(bytes.len())).map_err(too_large)?;
        let offset = i32::try_from(offset).map_err(too_large)?;
        let saving = |sql: &Statements| {
            statement(&sql.save_progress)
                .bind(&owner.key.as_bytes()[..])
                .bind(&owner.token.as_bytes()[..])
                .bind(offset)
                .bind(&bytes[..])
        };
        row::progress(&row::one(self.records.rows(saving).await?)?)
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        row::completion(&self.records.complete(owner, response, ttl).await?)
    }

    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.end(owners, |sql| &sql.release).await
    }

    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.end(owners, |sql| &sql.abandon).await
    }

    async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let giving = |sql: &Statements| {
            statement(&sql.give_grace)
                .bind(&key.as_bytes()[..])
                .bind(i64::from(attempt))
                .bind(micros(grace))
                .bind(micros(retention))
        };
        Ok(!self.records.rows(giving).await?.is_empty())
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let reading = |sql: &Statements| statement(&sql.get).bind(&key.as_bytes()[..]);
        let rows = self.records.rows(reading).await?;
        rows.first().map(row::record).transpose()
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        // Not by `rows`: arriving late, the first of two could remove the next record of the key.
        let (sql, lanes) = (self.records.statements().await?, self.records.lanes()?);
        let removing = || statement(&sql.remove).bind(&key.as_bytes()[..]);
        let removed = lanes.work.slot().await?.rows_once(removing).await?;
        Ok(!removed.is_empty())
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let purging = |sql: &Statements| statement(&sql.purge).bind(limit);
        row::purged(&self.records.rows(purging).await?)
    }

    async fn list(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        let mut listing = InOrder::new(filter, cursor, limit, NAME)?;
        loop {
            let listing_after = |sql: &Statements| {
                let list = match filter.lists_completed() {
                    true => &sql.list,
                    false => &sql.list_uncompleted,
                };
                statement(list)
                    .bind(listing.after.as_bytes().to_vec())
                    .bind(LOOK as i64)
            };
            let rows = self.records.rows(listing_after).await?;
            if !listing.add(rows.iter().map(row::listed).collect()) {
                return Ok(listing.finish());
            }
        }
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        match &self.notifications {
            Some(listener) => listener.subscribe(key),
            None => Subscription::none(),
        }
    }

    fn transactor(&self) -> Option<Transactor> {
        #[cfg(feature = "tokio-postgres")]
        if let Some(pool) = &self.deadpool {
            let records = Arc::clone(&self.records);
            let begin: Arc<dyn Begin<DeadpoolTransaction>> =
                Arc::new(DeadpoolTransactions::new(records, pool.clone()));
            return Some(begin.into());
        }
        let begin: Arc<dyn Begin<PgConnection>> =
            Arc::new(PgTransactions::new(Arc::clone(&self.records)));
        Some(begin.into())
    }
}

impl PostgresStore {
    async fn end(
        &self,
        owners: &[Owner],
        which: impl Fn(&Statements) -> &Arc<str> + Send + Sync,
    ) -> Vec<Result<Release, StoreError>> {
        if owners.is_empty() {
            return Vec::new();
        }
        let patience = MOST_PATIENCE;
        let ending = self.records.of_leases(owners.iter(), which, None, patience);
        let (done, lost) = (Release::Released, Release::Lost);
        row::each(ending.await, owners.len(), done, lost)
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("table", self.records.table())
            .field("schema", &self.records.place().schema)
            .field("connections", &self.records.connections())
            .field("notifications", &self.notifications)
            .finish_non_exhaustive()
    }
}
