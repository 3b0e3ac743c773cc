//! The MySQL and MariaDB store: for services that have such a database already.
//!
//! # What it guarantees
//!
//! Every rule of [`Store`], between any number of processes that use one server, by that server's
//! clock. The table's primary key decides who is first; every other write is one `UPDATE` or
//! `DELETE` that asks again, under the row's lock, all that it rests on, and the number of rows it
//! matched is the answer. There are no transactions of more than one statement, but those that a
//! handler asks for (`#[tx]`).
//!
//! MySQL 8.0 and newer, MariaDB 10.6 and newer.
//!
//! ```no_run
//! use idempotent_runtime::Idempotency;
//! use idempotent_runtime::store::mysql::MySqlStore;
//!
//! # async fn example(pool: sqlx::MySqlPool) -> Result<(), idempotent_runtime::Error> {
//! // Its own connections, and the table is made at the first start:
//! let store = MySqlStore::connect("mysql://payments:secret@10.0.0.5/payments").await?;
//!
//! // Or the pool that the application has already:
//! let store = MySqlStore::new(pool).with_table("payment_keys")?;
//! store.migrate().await?;
//!
//! let idempotency = Idempotency::new(store);
//! # Ok(())
//! # }
//! ```
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
//! # Deployment
//!
//! * **Size.** A response must fit into `max_allowed_packet` (64 MiB on MySQL, 16 MiB on MariaDB by
//!   default) and on some versions into a tenth of the redo log. One that does not is refused with
//!   [`Rejected`](StoreErrorKind::Rejected) and not stored, so keep `max_response_bytes` below both.
//! * **TLS and passwords.** This crate turns on neither TLS nor RSA in `sqlx`. Without them an
//!   account with `caching_sha2_password`, MySQL 8's default, can log in only while the server has
//!   its password cached, that is: not after a restart. Turn on what you need in your own
//!   `Cargo.toml`, cargo unites the features:
//!   `sqlx = { version = "0.9", default-features = false, features = ["tls-rustls-ring-webpki"] }`, and
//!   `?ssl-mode=VERIFY_IDENTITY` in the URL; or the feature `mysql-rsa` where the network is trusted.
//! * **A pool of your own** must have `autocommit` on, which [`MySqlStore::migrate`] checks. The
//!   statements need no particular `sql_mode` and are right at every isolation level; purging
//!   disturbs new claims least under `READ COMMITTED`. Lower `innodb_lock_wait_timeout` (50 s): a
//!   claim need not wait for a row that long. [`MySqlStore::connect`] sets all of that.
//! * **Rights**: `SELECT`, `INSERT`, `UPDATE`, `DELETE` on the table, and `CREATE` for the first start.
//! * **Waiting** for a running request is polling: the server has nothing to wake a client with.
//! * **Round trips**: one for a replay, a completion, a saved progress, a renewal of many, a release; two for a first
//!   claim and for a take-over.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlRow};
use sqlx::{ConnectOptions, Connection, MySqlConnection, MySqlPool};

use self::failure::TooLarge;
use self::row::{COMPLETED, RUNNING, Row, bytes, column};
use self::statements::{SESSION, Statement, Statements};
use super::sql::{Loan, TableName};
use super::transaction::Begin;
use super::{
    Claim, ClaimRequest, Completion, Progress, Release, Renewal, Store, StoreError, StoreErrorKind,
    Subscription, Transactor,
};
use crate::error::{Error, ErrorKind};
use crate::key::RecordKey;
use crate::record::{Owner, Record, StoredResponse, Token};

mod failure;
mod row;
mod schema;
mod statements;
mod transaction;

/// How often a claim looks at its record. Each time after the first, somebody else has just changed
/// it.
const CLAIM_TRIES: usize = 10;

/// How often a statement is sent that was in another's way.
const STATEMENT_TRIES: usize = 4;

/// How long [`MySqlStore::connect`] waits for the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An idle connection is asked whether it is still there before it is used after this long.
const IDLE_BEFORE_PING: Duration = Duration::from_secs(1);

/// Records in a table of MySQL or MariaDB. See the [module](self).
///
/// Clones share the pool.
#[derive(Clone)]
pub struct MySqlStore {
    pool: MySqlPool,
    table: TableName,
    statements: Arc<Statements>,
}

impl MySqlStore {
    /// A store in the table `idempotency_records` of the database that the pool is connected to.
    ///
    /// The table must be there: see [`migrate`](Self::migrate). What a pool of your own should look
    /// like is [above](self#deployment).
    #[must_use]
    pub fn new(pool: MySqlPool) -> Self {
        Self::in_table(pool, TableName::default())
    }

    /// The same store in another table.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`] unless the name is 1 to 48 letters, digits and underscores and
    /// does not begin with a digit.
    pub fn with_table(self, name: &str) -> Result<Self, Error> {
        Ok(Self::in_table(self.pool, TableName::new(name)?))
    }

    /// Connects to the database that a URL names, with the settings [above](self#deployment), and
    /// [migrates](Self::migrate) the table.
    ///
    /// The pool has at most ten connections. For other numbers, make the pool yourself.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`] when it is no URL or names no database. [`ErrorKind::Store`] when
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
    /// table of that name, when its schema is newer than this release, and when the pool's
    /// connections have `autocommit` off.
    pub async fn migrate(&self) -> Result<(), Error> {
        let connection = self.borrow().await.map_err(|error| {
            Error::new(ErrorKind::Store, "mysql store: no connection").with_source(error)
        });
        // Never given back: closing it is what frees the lock, also when this is dropped half-way.
        schema::migrate(&mut *connection?, &self.table, &self.statements).await
    }

    fn in_table(pool: MySqlPool, table: TableName) -> Self {
        Self {
            pool,
            statements: Arc::new(Statements::new(&table)),
            table,
        }
    }

    async fn borrow(&self) -> Result<Loan<sqlx::MySql>, StoreError> {
        let connection = self.pool.acquire().await;
        connection.map(Loan::new).map_err(|error| self.error(error))
    }

    fn error(&self, error: sqlx::Error) -> StoreError {
        failure::of_statement(&self.table, error)
    }

    /// Runs one statement and says how many rows it matched (not: changed; `sqlx` asks for that).
    ///
    /// Of two statements that lock each other out the server rolls one back as a whole. Nothing has
    /// happened then, and it is sent again.
    async fn matched(
        connection: &mut MySqlConnection,
        statement: impl Fn() -> Statement + Send,
    ) -> Result<u64, sqlx::Error> {
        let mut tries = 1;
        loop {
            match statement().execute(&mut *connection).await {
                Err(error) if tries < STATEMENT_TRIES && failure::is_lock_conflict(&error) => {
                    tries += 1;
                }
                done => return Ok(done?.rows_affected()),
            }
        }
    }

    /// Runs one statement about one row and says whether it matched.
    async fn has_matched(
        &self,
        connection: &mut MySqlConnection,
        statement: impl Fn() -> Statement + Send,
    ) -> Result<bool, StoreError> {
        match Self::matched(connection, statement).await {
            Ok(matched) => Ok(matched > 0),
            Err(error) if failure::is_duplicate(&error) => Ok(false),
            Err(error) => Err(self.error(error)),
        }
    }

    async fn read(
        &self,
        connection: &mut MySqlConnection,
        read: Statement,
    ) -> Result<Option<MySqlRow>, StoreError> {
        let row = read.fetch_optional(connection).await;
        row.map_err(|error| self.error(error))
    }

    /// One look at the record and at most one write; `None` when somebody came in between.
    ///
    /// It is as atomic as its last statement, for nothing is concluded from the look and the write
    /// together. An answer without a write is what the row said at one moment. A write happens only
    /// if the statement itself finds, under the row's lock, what makes it right: no row of that key
    /// (`insert.sql`), an expired one (`reclaim.sql`), that claim and abandoned (`take_over.sql`).
    async fn try_claim(
        &self,
        connection: &mut MySqlConnection,
        request: &ClaimRequest,
    ) -> Result<Option<Claim>, StoreError> {
        let first = Claim::Acquired {
            attempt: 1,
            age: Duration::ZERO,
        };
        let statements = &self.statements;
        let read = statements.read(&request.owner.key);
        let Some(row) = self.read(connection, read).await? else {
            let insert = || statements.insert(request);
            let is_ours = self.has_matched(connection, insert).await?;
            return Ok(is_ours.then_some(first));
        };
        let Some(seen) = Row::read(&row)? else {
            let reclaim = || statements.reclaim(request);
            let is_ours = self.has_matched(connection, reclaim).await?;
            return Ok(is_ours.then_some(first));
        };
        if let Some(claim) = seen.answer(request) {
            return Ok(Some(claim));
        }
        let take_over = || statements.take_over(request, &seen);
        let is_ours = self.has_matched(connection, take_over).await?;
        Ok(is_ours.then_some(Claim::Acquired {
            attempt: seen.next_attempt(),
            age: seen.age,
        }))
    }

    /// Renews claims of one length of lease, and adds those that are lost.
    async fn renew_some(
        &self,
        connection: &mut MySqlConnection,
        owners: &[Owner],
        lease: Duration,
        lost: &mut Vec<Owner>,
    ) -> Result<(), StoreError> {
        let renew = || self.statements.renew(owners, lease);
        let matched = Self::matched(connection, renew).await;
        let matched = matched.map_err(|error| self.error(error))?;
        if usize::try_from(matched) == Ok(owners.len()) {
            return Ok(());
        }
        let rows = self.statements.held(owners).fetch_all(connection).await;
        let mut held = HashSet::new();
        for row in rows.map_err(|error| self.error(error))? {
            held.insert(Owner {
                key: RecordKey::from_bytes(bytes(&row, 0)?),
                token: Token::from_bytes(bytes(&row, 1)?),
            });
        }
        lost.extend(owners.iter().filter(|owner| !held.contains(owner)));
        Ok(())
    }

    /// Why nothing was completed.
    async fn not_completed(
        &self,
        connection: &mut MySqlConnection,
        owner: &Owner,
    ) -> Result<Completion, StoreError> {
        let row = self
            .statements
            .completed_by(owner)
            .fetch_optional(connection)
            .await;
        match row.map_err(|error| self.error(error))? {
            Some(row) => match column::<u8>(&row, 0)? {
                COMPLETED => Ok(Completion::AlreadyMine),
                RUNNING => Ok(Completion::Lost),
                other => Err(row::unknown_state(other)),
            },
            None => Ok(Completion::Lost),
        }
    }

    /// A connection that broke while it carried a response or a progress: because of its size? The server ends
    /// the connection in the middle of such a packet, and its word for it is seldom read.
    async fn error_of_sending(&self, error: sqlx::Error, bytes: usize) -> StoreError {
        if !matches!(error, sqlx::Error::Io(_)) {
            return self.error(error);
        }
        let limit = sqlx::query_scalar::<_, u64>("SELECT CAST(@@max_allowed_packet AS UNSIGNED)")
            .fetch_one(&self.pool)
            .await;
        match limit {
            Ok(limit) if usize::try_from(limit).is_ok_and(|limit| bytes >= limit) => {
                let too_large = TooLarge {
                    bytes,
                    limit,
                    source: error,
                };
                StoreError::new(NAME, StoreErrorKind::Rejected).with_source(too_large)
            }
            _ => self.error(error),
        }
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
        .map_err(|error| no_server(failure::of_server(error)))?;
    // It has served its purpose; that the farewell got lost would be no reason not to start.
    drop(connected.close().await);
    Ok(())
}

fn pool(options: MySqlConnectOptions) -> MySqlPool {
    MySqlPoolOptions::new()
        .acquire_timeout(CONNECT_TIMEOUT)
        .after_connect(|connection, _| {
            Box::pin(async move { sqlx::raw_sql(SESSION).execute(connection).await.map(drop) })
        })
        .test_before_acquire(false)
        .before_acquire(|connection, about| {
            Box::pin(async move {
                if about.idle_for > IDLE_BEFORE_PING {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}

const NAME: &str = "mysql";

#[async_trait]
impl Store for MySqlStore {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Claim, StoreError> {
        let mut connection = self.borrow().await?;
        for _ in 0..CLAIM_TRIES {
            if let Some(claim) = self.try_claim(&mut connection, request).await? {
                connection.give_back();
                return Ok(claim);
            }
        }
        let contended = StoreError::new(NAME, StoreErrorKind::Unavailable);
        Err(contended.with_source("the record changed again and again while it was claimed"))
    }

    async fn renew(&self, renewals: &[Renewal]) -> Result<Vec<Owner>, StoreError> {
        let mut by_lease = BTreeMap::<_, Vec<_>>::new();
        for renewal in renewals {
            by_lease
                .entry(renewal.lease)
                .or_default()
                .push(renewal.owner);
        }
        let mut lost = Vec::new();
        if by_lease.is_empty() {
            return Ok(lost);
        }
        let mut connection = self.borrow().await?;
        for (lease, owners) in by_lease {
            for owners in owners.chunks(Statements::MOST_OWNERS) {
                self.renew_some(&mut connection, owners, lease, &mut lost)
                    .await?;
            }
        }
        connection.give_back();
        Ok(lost)
    }

    async fn save_progress(&self, owner: &Owner, progress: &Bytes) -> Result<Progress, StoreError> {
        let save = || self.statements.save_progress(owner, progress);
        let mut connection = self.borrow().await?;
        let saved = match Self::matched(&mut connection, save).await {
            Ok(0) => Progress::Lost,
            Ok(_) => Progress::Saved,
            Err(error) => {
                drop(connection);
                return Err(self.error_of_sending(error, progress.len()).await);
            }
        };
        connection.give_back();
        Ok(saved)
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
    ) -> Result<Completion, StoreError> {
        let bytes = response.encode();
        let complete = || self.statements.complete(owner, response.status, &bytes);
        let mut connection = self.borrow().await?;
        let completion = match Self::matched(&mut connection, complete).await {
            Ok(0) => self.not_completed(&mut connection, owner).await?,
            Ok(_) => Completion::Stored,
            Err(error) => {
                drop(connection);
                return Err(self.error_of_sending(error, bytes.len()).await);
            }
        };
        connection.give_back();
        Ok(completion)
    }

    async fn release(&self, owner: &Owner) -> Result<Release, StoreError> {
        let mut connection = self.borrow().await?;
        let release = || self.statements.release(owner);
        let is_released = self.has_matched(&mut connection, release).await?;
        connection.give_back();
        Ok(if is_released {
            Release::Released
        } else {
            Release::Lost
        })
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let mut connection = self.borrow().await?;
        let row = self.read(&mut connection, self.statements.get(key)).await?;
        connection.give_back();
        match row {
            Some(row) => Ok(Row::read(&row)?.map(Record::from)),
            None => Ok(None),
        }
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        let mut connection = self.borrow().await?;
        let remove = || self.statements.remove(key);
        let was_there = self.has_matched(&mut connection, remove).await?;
        connection.give_back();
        Ok(was_there)
    }

    async fn purge_expired(&self, limit: usize) -> Result<usize, StoreError> {
        if limit == 0 {
            return Ok(0);
        }
        let mut connection = self.borrow().await?;
        let purge = || self.statements.purge(limit);
        let purged = Self::matched(&mut connection, purge).await;
        let purged = purged.map_err(|error| self.error(error))?;
        connection.give_back();
        Ok(usize::try_from(purged).unwrap_or(limit))
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
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}
