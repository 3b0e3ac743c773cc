//! Records in a SQLite file, for one machine.
//!
//! # The problem
//!
//! A service on one machine wants to survive its own crash without a database server. A file can do that, but a record
//! counts only once it is on the disk, and waiting for the disk is slow: with one claim at a time, a few hundred per
//! second.
//!
//! # What it guarantees
//!
//! Every rule of [`Store`], for all threads and processes of one machine that have the file open. **Every acknowledged
//! write is on the disk**: the write-ahead log is flushed at every commit (`synchronous = FULL`), and no call returns
//! before. To make this cheap, one writer commits in groups: all operations that arrive during one transaction form the
//! next one, its claims in one statement, and its completions too. A single caller does not wait for others, and a
//! failing statement does not fail the others.
//!
//! A replay writes nothing. It is read on separate connections, even during a write; if those are busy, one statement
//! reads all replays that have arrived meanwhile.
//!
//! ```no_run
//! use idempotent_runtime::Idempotency;
//! use idempotent_runtime::store::sqlite::SqliteStore;
//!
//! # async fn example(pool: sqlx::SqlitePool) -> Result<(), idempotent_runtime::Error> {
//! // A file of its own, created if it is missing:
//! let idempotency = Idempotency::connect("sqlite:/var/lib/shop/idempotency.db").await?;
//!
//! // Or a table in the application's database:
//! let store = SqliteStore::new(pool).with_table("payment_keys")?;
//! store.migrate().await?;
//! let idempotency = Idempotency::new(store);
//! # Ok(())
//! # }
//! ```
//!
//! # What survives what
//!
//! | | answered operations |
//! | --- | --- |
//! | the process is killed, panics, or is out of memory | all of them |
//! | the machine loses power | all, if the disk really flushes when told to |
//! | the disk is lost, or a container's file system with the container | none: put the file on a volume on a reliable disk |
//! | a backup is restored | those after the backup are lost, and their keys **run again** |
//! | the disk is full | all; new claims are refused, and replays continue |
//! | the file is deleted, moved or replaced under the service | only those in the file that replaces it |
//!
#![doc = include_str!("guide.md")]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{SqlStr, SqliteConnection, SqlitePool};

use self::claim::TryClaim;
use self::complete::Complete;
use self::each::{Abandon, Free};
use self::error::{NAME, store_error};
use self::looking::Looker;
use self::records::Records;
use self::statements::Statements;
use self::time::Time;
#[cfg(doc)]
use super::StoreErrorKind;
use super::listing::{InOrder, Looked};
use super::sql::TableName;
use super::transaction::Begin;
use super::{
    Claim, ClaimRequest, Completion, ListCursor, ListFilter, Listing, Progress, Purged, Release,
    Renewal, Renewed, Store, StoreError, Subscription, Transactor,
};
use crate::error::{Error, ErrorKind};
use crate::key::RecordKey;
use crate::record::{Owner, Record, StoredResponse};

mod batch;
mod batches;
mod check;
mod claim;
mod complete;
mod database;
mod each;
mod error;
mod group;
mod job;
mod looking;
mod migrate;
mod operations;
mod queue;
mod readers;
mod records;
mod row;
mod schema;
mod session;
mod shared;
mod statements;
mod target;
#[cfg(test)]
mod tests;
mod time;
mod transaction;
mod url;
mod writer;

/// Records in an SQLite database. See the [module](self).
pub struct SqliteStore {
    options: SqliteConnectOptions,
    table: TableName,
    records: Records,
    /// For a store that changes nothing before it is told to.
    looker: Option<Looker>,
}

impl SqliteStore {
    /// A store in the database of this pool.
    ///
    /// It opens its own connections with the pool's options: one that writes, up to three that read, and one for
    /// handlers' transactions. It does not run the pool's `after_connect`. It sets the file to WAL mode permanently;
    /// the pool's options must not ask for another `journal_mode`.
    ///
    /// Nothing happens before the first call. The table must exist: see [`migrate`](Self::migrate).
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the pools of all stores are given away"
    )]
    pub fn new(pool: SqlitePool) -> Self {
        let options = SqliteConnectOptions::clone(&pool.connect_options());
        Self::with_options(options, TableName::default())
    }

    /// The same store with another table than `idempotency_records`; it is not migrated yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`] unless the name is 1 to 48 letters, digits and underscores, and does not begin with a
    /// digit.
    pub fn with_table(self, name: &str) -> Result<Self, Error> {
        Ok(Self::with_options(self.options, TableName::new(name)?))
    }

    /// The store that a URL names, migrated: `sqlite:path`, `sqlite:///absolute/path` or
    /// `sqlite::memory:`.
    ///
    /// A missing file is created, unless the URL's `mode` says otherwise; a missing directory is not.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`], also if there is no path; [`ErrorKind::Store`] if the file cannot be opened or cannot
    /// be in WAL mode, or if its table of that name is not this crate's, or is another release's.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let store = Self::with_options(url::options_of(url)?, TableName::default());
        store.migrate().await?;
        Ok(store)
    }

    /// Creates the table and its index if they are missing. Any number of processes may do so at once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`], as for [`connect`](Self::connect).
    pub async fn migrate(&self) -> Result<(), Error> {
        self.records.write(migrate::Migrate).await.map_err(|error| {
            let message = format!("sqlite store could not set up its table `{}`", self.table);
            Error::new(ErrorKind::Store, message).with_source(error)
        })
    }

    /// The statements that [`migrate`](Self::migrate) runs: for a migration of `sqlx migrate` or another tool.
    /// `migrate` then finds the table and leaves it alone.
    #[must_use]
    pub fn migrations(&self) -> String {
        let Statements {
            create_table,
            create_index,
            create_listing_index,
            ..
        } = &self.records.statements;
        [create_table, create_index, create_listing_index]
            .map(|statement| format!("{};\n", statement.as_str().trim_end()))
            .join("\n")
    }

    fn with_options(options: SqliteConnectOptions, table: TableName) -> Self {
        Self {
            records: Records::new(&options, &table),
            options,
            table,
            looker: None,
        }
    }

    /// Reads without the writer until there is something to write: looking leaves the file as it is.
    fn looking(mut self) -> Self {
        let file = self.records.database.path();
        self.looker = file.map(|file| Looker::new(&self.options, file, &self.table));
        self
    }
}

impl SqliteStore {
    /// So many rows after this key.
    async fn look(
        &self,
        list: SqlStr,
        after: RecordKey,
    ) -> Result<Vec<Looked<StoreError>>, StoreError> {
        if self.records.database.is_readable() {
            let rows = self.records.readers.list(list, &after).await;
            return rows.map_err(store_error);
        }
        match &self.looker {
            Some(looker) => looker.list(list, &after).await,
            None => self.records.write(operations::List { list, after }).await,
        }
    }
}

fn released(is_released: bool) -> Release {
    match is_released {
        true => Release::Released,
        false => Release::Lost,
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        if self.records.database.is_readable()
            && let Some(claim) = self.records.replay(request).await?
        {
            return Ok(claim);
        }
        let claim = TryClaim::new(request, self.records.shared.expected_ttl());
        let (claim, _) = self.records.write(claim).await?;
        Ok(claim)
    }

    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        let renewed = |is_renewed| match is_renewed {
            true => Renewed::Renewed,
            false => Renewed::Lost,
        };
        let results = self.records.each(renewals.to_vec()).await;
        results.into_iter().map(|it| it.map(renewed)).collect()
    }

    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        let save = operations::SaveProgress {
            owner: *owner,
            offset,
            bytes: bytes.clone(),
        };
        self.records.write(save).await
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        self.records.shared.expect_ttl(ttl);
        let complete = Complete {
            owner: *owner,
            status: response.status,
            response: response.encode(),
            ttl,
        };
        let (completion, _) = self.records.write(complete).await?;
        Ok(completion)
    }

    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        let results = self
            .records
            .each(owners.iter().copied().map(Free).collect())
            .await;
        results.into_iter().map(|it| it.map(released)).collect()
    }

    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        let results = self
            .records
            .each(owners.iter().copied().map(Abandon).collect())
            .await;
        results.into_iter().map(|it| it.map(released)).collect()
    }

    async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let give = operations::GiveGrace {
            key: *key,
            attempt,
            grace,
            retention,
        };
        self.records.write(give).await
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        if self.records.database.is_readable() {
            let (get, now) = (self.records.statements.get.clone(), Time::now());
            let columns = self.records.readers.fetch(get, key).await;
            return row::record(columns.map_err(store_error)?, now);
        }
        match &self.looker {
            Some(looker) => looker.get(self.records.statements.get.clone(), key).await,
            None => self.records.write(operations::Get(*key)).await,
        }
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        Ok(self
            .records
            .write(operations::Remove(*key))
            .await?
            .is_some())
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        self.records.write(operations::Purge { limit }).await
    }

    async fn list(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        let mut listing = InOrder::new(filter, cursor, limit, NAME)?;
        let list = match filter.lists_completed() {
            true => &self.records.statements.list,
            false => &self.records.statements.list_uncompleted,
        };
        loop {
            let rows = self.look(list.clone(), listing.after).await?;
            if !listing.add(rows) {
                return Ok(listing.finish());
            }
        }
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        Subscription::best_effort(self.records.shared.waiters.watch(*key))
    }

    fn transactor(&self) -> Option<Transactor> {
        let begin: Arc<dyn Begin<SqliteConnection>> = Arc::new(self.records.transactions());
        Some(begin.into())
    }
}

/// Without the options: there can be a passphrase among them.
impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}
