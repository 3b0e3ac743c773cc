//! The MySQL and MariaDB store: for services that have such a database already.
//!
//! # What it guarantees
//!
//! Every rule of [`Store`], between any number of processes that use one server, by that server's
//! clock. The table's primary key decides who is first; every other write to one record is one `UPDATE` or
//! `DELETE` that asks again, under the row's lock, all that it rests on, and the number of rows it
//! matched is the answer. What is done to many records at once (renewals, releases) is one transaction,
//! which skips rows that another session has locked: they are [`Busy`](StoreErrorKind::Busy), and delay
//! none of the others.
//!
//! MySQL 8.0 and newer, MariaDB 10.6 and newer.
//!
//! ```no_run
//! use idempotent_runtime::Idempotency;
//! use idempotent_runtime::store::mysql::MySqlStore;
//!
//! # async fn example(pool: sqlx::MySqlPool) -> Result<(), idempotent_runtime::Error> {
//! // The table is made at the first start:
//! let store = MySqlStore::connect("mysql://payments:secret@10.0.0.5/payments").await?;
//!
//! // Or with the pool that the application has already, for transactions (`#[tx]`) on it:
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
//! The store has connections of its own, whatever the application's handlers do with theirs. They are made
//! when they are needed, with the pool's options, and closed after ten idle minutes or half an hour of
//! use. A process needs at most:
//!
//! | | connections | when all are in use |
//! | --- | --- | --- |
//! | claims, replays, completions, steps, operators, purging | [10](MySqlStore::with_connections) | a call waits; a request whose claim waits longer than the store's time-out is 503, and nothing was done |
//! | renewals of leases | 2 | a renewal waits, and nothing else |
//! | transactions (`#[tx]`) | the pool's, one for each that runs | a request waits for the pool, and is 503 after the store's time-out |
//!
//! So ten processes with pools of ten need 220 of the server's `max_connections` (151 by default) when all
//! are busy. Nothing of the pool's own is used but its options: `after_connect` does not run on the
//! store's connections, and closing the pool does not close them; they end with the store.
//!
//! # What survives what
//!
//! | | with the settings below | without |
//! | --- | --- | --- |
//! | the application's process ends | everything | everything |
//! | the server's process ends | everything | everything with `innodb_flush_log_at_trx_commit` 1 or 2 |
//! | power cut, crash of the system | everything | about a second of records, and what they protect, is lost |
//! | fail-over to a replica | everything that was acknowledged | what the replica had not received |
//!
//! The settings, where the keys protect money:
//!
//! * `innodb_flush_log_at_trx_commit = 1` and `sync_binlog = 1`. The first is the default of both
//!   servers; the second is MySQL's, and 0 on MariaDB.
//! * With replicas that may take over: semi-synchronous replication with `AFTER_SYNC`. **It falls
//!   back to asynchronous by itself** when no replica answers within `rpl_semi_sync_source_timeout`
//!   (MariaDB: `rpl_semi_sync_master_timeout`; 10 s): set it so high that it never does, and a
//!   server without replicas stops taking claims instead of risking them.
//! * `binlog_format = ROW` or `MIXED`. `InnoDB` refuses `STATEMENT` under `READ COMMITTED`.
//! * All connections go to the **primary**. Behind a proxy that sends reads to replicas, replays
//!   and abandoned claims are seen late; no key runs twice by it, because only the primary writes.
//!
//! # When the server is in trouble
//!
//! * **Silent** (a network that drops packets, a host that is gone): a connection that was idle for a
//!   second is asked first, for half a second at most. A call that got no reply in time closes its
//!   connection and all idle ones that are as old, so the next call has a fresh one.
//! * **Restarted**, or an idle connection ended (`wait_timeout`, `KILL`): the call is sent once more on a
//!   fresh connection, because each may be repeated. `test_before_acquire` is not needed.
//! * **Read-only, demoted, shut down, out of its Galera cluster**: refused, and its connections are closed,
//!   so that the next ones go to the server that is the primary behind the address by then.
//! * **Gone without a word in a transaction** (no FIN, no RST): the server ends it, and so its locks, 5 s after
//!   the first message of a batch of this store, and 5 s more than
//!   [`transaction_timeout`](crate::IdempotencyBuilder::transaction_timeout) after the last statement of a `#[tx]` handler
//!   (the session's `wait_timeout`, for the transaction only).
//! * **A locked row** (an open transaction of another session): a claim or a completion waits for it for a
//!   second at most. Other rows are not affected.
//!
//! Errors are told apart by their number: *busy* (1205, 1213, 3572, ...), *full* (1021, 1114), *too large*
//! (1118, 1153, ...), *interrupted* and perhaps done (1180, 1317, ...), the rest *refused*. None but *too
//! large* is final.
//!
//! # Deployment
//!
//! * **The server's defaults do not matter** to the store's own connections: isolation level (they are
//!   `READ COMMITTED`), `autocommit`, `sql_mode`, `time_zone`, time-outs of locks. Transactions of handlers
//!   have what the pool's connections have; those that [`MySqlStore::connect`] makes are strict, `READ
//!   COMMITTED`, and wait for a lock for a second.
//! * **The database** is named by the pool's options, and by each statement. A handler's `USE` changes
//!   nothing. Without one in the options, everything is refused.
//! * **Handlers with a transaction** may change their session. The record is written all the same: under
//!   another role, another database or `LOCK TABLES`, and with the session's clock set back. A connection
//!   whose database, user, role, isolation, mode, time-outs, character sets or clock a handler has left
//!   changed is closed and not given back to the pool; named locks are freed. Temporary tables and user
//!   variables are not looked for. **A statement that commits by itself** (`CREATE TABLE`, `LOCK TABLES`,
//!   `SET autocommit = 1`) commits what came before it: a crash after that leaves an abandoned record.
//! * **Size.** A response must fit into `max_allowed_packet` (64 MiB on MySQL, 16 MiB on MariaDB by
//!   default) and on some versions into a tenth of the redo log. One that does not is
//!   [`TooLarge`](StoreErrorKind::TooLarge) and not stored, so keep `max_response_bytes` below both. The
//!   steps of one attempt must fit together.
//! * **TLS and passwords.** This crate turns on neither TLS nor RSA in `sqlx`. Without them an
//!   account with `caching_sha2_password`, MySQL 8's default, can log in only while the server has
//!   its password cached, that is: not after a restart. Turn on what you need in your own
//!   `Cargo.toml`, cargo unites the features:
//!   `sqlx = { version = "0.9", default-features = false, features = ["tls-rustls-ring-webpki"] }`, and
//!   `?ssl-mode=VERIFY_IDENTITY` in the URL; or the feature `mysql-rsa` where the network is trusted. A
//!   password that is rotated is the pool's to know: `pool.set_connect_options`.
//! * **Rights**: `SELECT`, `INSERT`, `UPDATE`, `DELETE` on the table, and `CREATE` for the first start.
//! * **Waiting** for a running request is polling: the server has nothing to wake a client with.
//! * **Round trips**: one for a replay, a completion, a saved progress; two for a first claim, for a
//!   take-over, for a renewal or a release of up to 500 claims (what is skipped costs one more); one more
//!   for a connection that was idle for a second.
//! * **The schema's version** is the default of the column `schema_version`: it is in every dump. A table of
//!   another release is refused by [`MySqlStore::migrate`], which says what to do.
//!
//! # The table
//!
//! The table and its columns are a stable interface: a later release adds columns, and gives the schema another version
//! when one changes its meaning. Read them; what others write is not checked. [`MySqlStore::migrations`]
//! is the SQL that makes them, for a tool of your own.
//!
//! | column | type | |
//! | --- | --- | --- |
//! | `record_key` | BINARY(32) | the record key |
//! | `request_hash` | BINARY(32) | the fingerprint |
//! | `state` | TINYINT UNSIGNED | 1 running, 2 completed |
//! | `token` | BINARY(16) | who holds the claim; NULL once its owner has abandoned it |
//! | `attempt` | INT UNSIGNED | 1, 2, ... |
//! | `operation` | TEXT | at most 128 bytes |
//! | `label` | VARCHAR(64) | the application's own reference, at most 64 bytes, or NULL |
//! | `status_code` | SMALLINT UNSIGNED | of a completed response, for people |
//! | `response` | LONGBLOB | of a completed record: see [`StoredResponse::encode`](crate::StoredResponse::encode) |
//! | `progress` | LONGBLOB | finished steps of a claim that was not completed |
//! | `created_at` | DATETIME(6), UTC | the first claim |
//! | `lease_until` | DATETIME(6), UTC | a running record whose lease has ended is abandoned |
//! | `expires_at` | DATETIME(6), UTC | the record is absent from then on |
//! | `schema_version` | TINYINT UNSIGNED | its default is the version of the schema, 3 |

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::{ConnectOptions, Connection, MySqlConnection, MySqlPool};

use self::batches::{BATCH, How};
use self::failure::Failure;
use self::lane::{Health, Lane};
use self::place::Place;
use self::row::Row;
use self::statements::{HANDLER_SESSION, Statements};
use super::listing::InOrder;
use super::sql::TableName;
use super::transaction::Begin;
use super::{
    Claim, ClaimRequest, Completion, ListCursor, ListFilter, Listing, Progress, Purged, Release,
    Renewal, Renewed, Store, StoreError, StoreErrorKind, Subscription, Transactor,
};
use crate::error::{Error, ErrorKind};
use crate::key::RecordKey;
use crate::record::{Owner, Record, StoredResponse};

mod batches;
mod failure;
mod lane;
mod operations;
mod place;
mod row;
mod schema;
mod statements;
mod transaction;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The connections for claims, completions and all else but renewals.
const CONNECTIONS: u32 = 10;

/// The connections for renewals, which wait for no other call.
const RENEWAL_CONNECTIONS: u32 = 2;

/// Records in a table of MySQL or MariaDB. See the [module](self).
///
/// Clones share the connections.
#[derive(Clone)]
pub struct MySqlStore {
    /// For transactions.
    pool: MySqlPool,
    lanes: Arc<Lanes>,
    place: Place,
    statements: Arc<Statements>,
}

/// The store's own connections.
struct Lanes {
    calls: Lane,
    renewals: Lane,
}

impl Lanes {
    fn new(pool: &MySqlPool, connections: u32) -> Arc<Self> {
        let health = Arc::<Health>::default();
        Arc::new(Self {
            calls: Lane::new(pool.clone(), Arc::clone(&health), connections),
            renewals: Lane::new(pool.clone(), health, RENEWAL_CONNECTIONS),
        })
    }
}

impl MySqlStore {
    /// A store in the table `idempotency_records` of the database that the pool's options name.
    ///
    /// The table must be there: see [`migrate`](Self::migrate). The pool is used for transactions
    /// (`#[tx]`) only: see [above](self#connections).
    #[must_use]
    pub fn new(pool: MySqlPool) -> Self {
        let lanes = Lanes::new(&pool, CONNECTIONS);
        Self::with(pool, lanes, TableName::default())
    }

    /// The same store in another table.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`] unless the name is 1 to 48 letters, digits and underscores and
    /// does not begin with a digit.
    pub fn with_table(self, name: &str) -> Result<Self, Error> {
        Ok(Self::with(self.pool, self.lanes, TableName::new(name)?))
    }

    /// How many connections of its own the store may have for claims, completions and all else but
    /// renewals, for which there are two more. At least 1, by default 10.
    #[must_use]
    pub fn with_connections(self, connections: u32) -> Self {
        Self {
            lanes: Lanes::new(&self.pool, connections),
            ..self
        }
    }

    /// Connects to the database that a URL names, and [migrates](Self::migrate) the table.
    ///
    /// For transactions there is a pool of at most ten connections, with settings that suit them: see
    /// [above](self#deployment). For others, make the pool yourself.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`] when it is not a URL or names no database. [`ErrorKind::Store`] when
    /// the server cannot be reached or refuses us, or the table cannot be used; the
    /// [source](std::error::Error::source) says why. No message has the password.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let invalid = "the mysql store's URL looks like `mysql://user:password@host/database`";
        let options: MySqlConnectOptions = url.parse().map_err(|error: sqlx::Error| {
            Error::new(ErrorKind::InvalidUrl, invalid).with_source(error)
        })?;
        if options.get_database().is_none() {
            return Err(Error::new(ErrorKind::InvalidUrl, invalid));
        }
        try_out(&options).await?;
        let store = Self::new(pool(options));
        store.migrate().await?;
        Ok(store)
    }

    /// Makes the table unless it is there. To be called at every start; any number of processes
    /// may do so at once.
    ///
    /// A table that is there is left as it is, so only the first start needs the right to create
    /// one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`] when the server cannot be reached or refuses, when there is another
    /// table of that name, and when its schema is another release's.
    pub async fn migrate(&self) -> Result<(), Error> {
        let connection = self.lanes.calls.fresh().await;
        let connection = connection.map_err(|error| {
            Error::new(ErrorKind::Store, "mysql store: no connection").with_source(error)
        });
        // Never given back: closing it is what frees the lock, also when this is dropped half-way.
        schema::migrate(&mut *connection?, &self.place, &self.statements).await
    }

    /// The statement that [`migrate`](Self::migrate) runs where there is no table: for a database administrator, or a
    /// migration of `sqlx migrate` or another tool. `migrate` then finds the table and leaves it alone.
    #[must_use]
    pub fn migrations(&self) -> String {
        self.statements.migrations()
    }

    fn with(pool: MySqlPool, lanes: Arc<Lanes>, table: TableName) -> Self {
        let place = Place::new(&pool.connect_options(), table);
        Self {
            pool,
            lanes,
            statements: Arc::new(Statements::new(&place)),
            place,
        }
    }

    async fn renew_some(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        let mut call = self.lanes.renewals.call();
        loop {
            let mut connection = match call.connection().await {
                Ok(connection) => connection,
                Err(error) => return vec![Err(error); renewals.len()],
            };
            let renewed = self.renew_on(&mut connection, renewals).await;
            match call.end(connection, renewed) {
                Some(Ok(renewed)) => return renewed,
                Some(Err(error)) => return vec![Err(error); renewals.len()],
                None => {}
            }
        }
    }

    async fn give_up_some(&self, owners: &[Owner], how: How) -> Vec<Result<Release, StoreError>> {
        let mut call = self.lanes.calls.call();
        loop {
            let mut connection = match call.connection().await {
                Ok(connection) => connection,
                Err(error) => return vec![Err(error); owners.len()],
            };
            let given_up = self.give_up_on(&mut connection, owners, how).await;
            match call.end(connection, given_up) {
                Some(Ok(given_up)) => return given_up,
                Some(Err(error)) => return vec![Err(error); owners.len()],
                None => {}
            }
        }
    }

    async fn give_up(&self, owners: &[Owner], how: How) -> Vec<Result<Release, StoreError>> {
        let mut results = Vec::with_capacity(owners.len());
        for owners in owners.chunks(BATCH) {
            results.extend(self.give_up_some(owners, how).await);
        }
        results
    }
}

/// Whether the server lets us in, and if not, why: a pool tries again until its time is up and then
/// says nothing but that.
async fn try_out(options: &MySqlConnectOptions) -> Result<(), Error> {
    let no_server = |source: StoreError| {
        let message = format!(
            "mysql store: no connection to {}:{}",
            options.get_host(),
            options.get_port()
        );
        Error::new(ErrorKind::Store, message).with_source(source)
    };
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await;
    let connected = connected
        .map_err(|_| no_server(StoreError::new(NAME, StoreErrorKind::TimedOut)))?
        .map_err(|error| no_server(failure::of_server(error).error))?;
    // It has served its purpose; that the farewell got lost would be no reason not to start.
    drop(tokio::time::timeout(CONNECT_TIMEOUT, connected.close()).await);
    Ok(())
}

fn pool(options: MySqlConnectOptions) -> MySqlPool {
    MySqlPoolOptions::new()
        .acquire_timeout(CONNECT_TIMEOUT)
        .after_connect(|connection, _| {
            Box::pin(async move {
                let set = sqlx::raw_sql(HANDLER_SESSION).execute(connection);
                set.await.map(drop)
            })
        })
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

const NAME: &str = "mysql";

/// Runs an operation on a connection of a lane, and once more on a fresh one if that connection had been
/// idle and turned out to be of no use.
macro_rules! on_lane {
    ($lane:expr, |$connection:ident| $operation:expr) => {{
        let mut call = $lane.call();
        loop {
            let mut $connection = call.connection().await?;
            let result: Result<_, Failure> = $operation.await;
            if let Some(result) = call.end($connection, result) {
                break result;
            }
        }
    }};
}

#[async_trait]
impl Store for MySqlStore {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        on_lane!(self.lanes.calls, |connection| self
            .claim_on(&mut connection, request))
    }

    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        let mut results = Vec::with_capacity(renewals.len());
        for renewals in renewals.chunks(BATCH) {
            results.extend(self.renew_some(renewals).await);
        }
        results
    }

    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        on_lane!(self.lanes.calls, |connection| self.save_progress_on(
            &mut connection,
            owner,
            offset,
            bytes
        ))
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        on_lane!(self.lanes.calls, |connection| self.complete_on(
            &mut connection,
            owner,
            response,
            ttl
        ))
    }

    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.give_up(owners, How::Release).await
    }

    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.give_up(owners, How::Abandon).await
    }

    async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let give = || self.statements.give_grace(key, attempt, grace, retention);
        on_lane!(self.lanes.calls, |connection| self
            .has_matched(&mut connection, give))
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let row = on_lane!(self.lanes.calls, |connection| self
            .read(&mut connection, self.statements.get(key)));
        match row? {
            Some(row) => Ok(Row::read(&row)?.map(Record::from)),
            None => Ok(None),
        }
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        let remove = || self.statements.remove(key);
        on_lane!(self.lanes.calls, |connection| self
            .has_matched(&mut connection, remove))
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        let mut purged = Purged::default();
        while purged.records < limit {
            let most = (limit - purged.records).min(BATCH);
            let some = on_lane!(self.lanes.calls, |connection| self
                .purge_on(&mut connection, most));
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
            let after = listing.after;
            let list = || self.statements.list(filter.lists_completed(), &after);
            let rows = on_lane!(self.lanes.calls, |connection| self
                .read_all(&mut connection, list()));
            if !listing.add(row::listed(&rows?)) {
                return Ok(listing.finish());
            }
        }
    }

    fn subscribe(&self, _: &RecordKey) -> Subscription {
        Subscription::none()
    }

    fn transactor(&self) -> Option<Transactor> {
        let begin: Arc<dyn Begin<MySqlConnection>> = Arc::new(self.clone());
        Some(begin.into())
    }
}

impl fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlStore")
            .field("table", self.place.table())
            .finish_non_exhaustive()
    }
}
