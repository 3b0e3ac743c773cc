//! Records in PostgreSQL: durable, and shared by every process that uses the table.
//!
//! # The problem, and what is guaranteed
//!
//! The usual SQL for this is wrong or slow. `SELECT`, then `INSERT` lets two requests through.
//! `INSERT ... ON CONFLICT DO UPDATE` locks the row for each replay, which is a write, so that a
//! replay waits for the disk. A `DO NOTHING` with a `SELECT` beside it returns no row at all when it
//! loses a race. So the claim is one function of the database ([`migrate`](PostgresStore::migrate)
//! installs it), called with one round trip, and:
//!
//! * every rule of [`Store`] holds, between all processes that share the table;
//! * a replay reads one row by its primary key and writes nothing: no transaction id, no WAL, no
//!   fsync;
//! * a first claim and a completion are one commit each, or less than one when many come in at once
//!   ([below](self#groups)), and the completion touches no index as long as its response finds
//!   room on the record's page;
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
//! // Or with the one that the application has:
//! let pool = PgPoolOptions::new()
//!     .test_before_acquire(false) // else each call is two round trips
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
//! | the server dies, or loses power | everything that was acknowledged | `synchronous_commit = off`: the last fraction of a second is forgotten, and **those requests run again**; `fsync = off`: anything may be gone |
//! | fail-over to a replica | everything that was acknowledged | asynchronous replication: what the replica had not received is forgotten, and **runs again** |
//! | restoring a backup, or point-in-time recovery | what the backup has | the same: every later key is forgotten |
//!
//! Where money moves: `fsync = on`, `full_page_writes = on` and `synchronous_commit = on` (the
//! defaults, and not switched off for the role or the database; [`migrate`](PostgresStore::migrate)
//! warns when they are), and with replicas `synchronous_standby_names` naming at least one that a
//! fail-over chooses. Never make the table `UNLOGGED`: a crash empties it.
//!
//! # Deployment caveats
//!
//! * **Pool.** Claims hold a connection for one statement and waiters hold none, so a small pool
//!   does: what is too much for its connections goes in groups. A pool that the handlers use too can
//!   be emptied by them, and then nothing can be completed.
//! * **`PgBouncer`** in session mode is transparent. Transaction mode takes 1.21 or newer with
//!   `max_prepared_statements` above 0, and sqlx's statement cache left on: sqlx prepares in one
//!   round trip and executes in the next, which an older `PgBouncer` may send to two servers.
//!   `statement_cache_capacity(0)` is no way around it: it only leaves nobody to close the
//!   statements. `LISTEN` is of no use there: [`without_hints`](PostgresStore::without_hints) saves
//!   the connection.
//! * **Read-only replicas** cannot hold claims; the URL must lead to the primary.
//! * **Privileges.** [`migrate`](PostgresStore::migrate) creates a table, an index, six functions
//!   and two triggers when they are not there, so the first one needs `CREATE` on the schema. After
//!   that `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the table will do, for later migrations of the
//!   same release too.
//! * **Schema.** The name of the table is looked up along `search_path`.
//! * **Server-side time-outs.** A call that the application gave up may still be waiting in the
//!   server. `lock_timeout` and `statement_timeout` for the role bound that; both are reported as
//!   [`TimedOut`](crate::store::StoreErrorKind::TimedOut).
//! * **Sweeping.** Expired rows are absent whether or not they are there; call
//!   [`purge_expired`](Store::purge_expired) now and then so that the table does not grow. Several
//!   processes may, one of them does the work.
//!
//! # Groups
//!
//! A commit waits for the disk, and that wait is nearly all a claim or a completion costs. While few
//! are under way, each goes at once, by a statement of its own. When there are as many as four fifths
//! of the pool's connections, or 16, the others queue, and the next connection takes all that is
//! queued, up to 128: one round trip, one commit. Who is alone waits for nobody: there is no timer. A
//! replay that happens to be in a group waits for its commit; a group of replays writes nothing.
//!
//! An operation that fails, fails alone: when a group comes to nothing, each of its operations is sent
//! by itself. So it is when one of them would have to wait for a row for more than 50 ms.
//!
//! (PostgreSQL 15, two busy cores, groups against one statement for each, in turn: with a pool of 10,
//! 2.3 times as many pairs of a claim and a completion in a second for 64 callers, 1.2 times for 16,
//! the same for one; with a pool of 4, 5 times for 64.)
//!
//! # Waiting
//!
//! A request that waits for another one's answer (`in_flight = "wait"`) is woken by a hint, and looks
//! now and then all the same, at last every second: a hint can get lost, a look cannot.
//!
//! The hint is `NOTIFY`, and that is not free. It takes one lock for the whole server from before a
//! commit is flushed until after it, so that transactions that notify are committed one by one and not
//! in groups. So only a record that somebody waits for tells of the end of its claim: the first one
//! to wait for it in a process marks the record, in one call, and a trigger whose condition is that
//! mark does the rest. Claims and completions of all others cost what they cost without it.
//! (PostgreSQL 15, 16 connections, two busy cores, `pgbench`, three runs in turn: 1,110 pairs of a
//! claim and a completion in a second without trigger and mark, 1,160 with them and nobody waiting,
//! 250 when each completion notifies.)
//!
//! The first one to wait in a process opens one connection that listens. It is not the pool's, is
//! opened again when it is lost, and goes with the store. Where there is none, or where it hears
//! nothing, waiters look. [`without_hints`](PostgresStore::without_hints) does without it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use self::error::store_error;
use self::groups::Groups;
use self::hints::Listener;
use self::operation::Operation;
use self::statements::Statements;
use self::transaction::Transactions;
use super::sql::TableName;
use super::transaction::Begin;
use super::{
    Claim, ClaimRequest, Completion, Progress, Release, Renewal, Store, StoreError, StoreErrorKind,
    Subscription, Transactor,
};
use crate::error::{Error, ErrorKind};
use crate::key::RecordKey;
use crate::record::{Owner, Record, StoredResponse};

mod error;
mod groups;
mod hints;
mod operation;
mod rows;
mod schema;
mod statements;
mod transaction;

const NAME: &str = "postgres";

/// How long [`PostgresStore::connect`] tries, and how long a call waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may have been idle to be used without asking whether it is still there.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// Records in a table of PostgreSQL. See the [module](self).
pub struct PostgresStore {
    pool: PgPool,
    table: TableName,
    statements: Statements,
    groups: Groups,
    /// `None`: who waits here polls.
    hints: Option<Listener>,
}

impl PostgresStore {
    /// A store in the table `idempotency_records` of the pool's database.
    ///
    /// [`migrate`](Self::migrate) must have been called once for the table.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self::in_table(pool, TableName::default()).with_hints()
    }

    /// The same store in another table.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`] unless the name is 1 to 48 letters, digits and underscores and
    /// does not begin with a digit. It is case-sensitive.
    pub fn with_table(self, name: &str) -> Result<Self, Error> {
        let store = Self::in_table(self.pool, TableName::new(name)?);
        Ok(match self.hints {
            Some(_) => store.with_hints(),
            None => store,
        })
    }

    /// Listens to nothing: who waits here polls.
    ///
    /// For `PgBouncer` in transaction mode, where `LISTEN` is of no use, and for who cannot spare
    /// the connection.
    #[must_use]
    pub fn without_hints(self) -> Self {
        Self {
            hints: None,
            ..self
        }
    }

    fn with_hints(self) -> Self {
        let mark = Arc::clone(&self.statements.wait);
        let listener = Listener::new(self.pool.clone(), &self.table, mark);
        Self {
            hints: Some(listener),
            ..self
        }
    }

    fn in_table(pool: PgPool, table: TableName) -> Self {
        let statements = Statements::new(&table);
        Self {
            groups: Groups::new(pool.clone(), &statements),
            pool,
            statements,
            table,
            hints: None,
        }
    }

    /// A store with a pool of its own, at most 10 connections, in the table `idempotency_records`,
    /// which is [migrated](Self::migrate).
    ///
    /// The URL is sqlx's: `postgres://user:password@host:port/database?sslmode=require`. TLS takes
    /// one of sqlx's `tls-*` features.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`]; [`ErrorKind::Store`] when there is no connection within 5 seconds
    /// or [`migrate`](Self::migrate) fails.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let options = connect_options(url)?;
        probe(&options).await?;
        let pool = PgPoolOptions::new()
            .max_connections(10)
            .acquire_timeout(CONNECT_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, metadata| {
                Box::pin(async move {
                    if metadata.idle_for > TRUSTED_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        let store = Self::new(pool);
        store.migrate().await?;
        Ok(store)
    }

    /// Creates the table, its index, functions and triggers, unless they are there.
    ///
    /// Any number of processes may call it at once. It warns (by `tracing`) when the server is set
    /// to lose acknowledged commits.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`] when the server cannot be reached or refuses, when a newer release has
    /// migrated the table, or when there is a table of that name that is not this crate's.
    pub async fn migrate(&self) -> Result<(), Error> {
        schema::migrate(&self.pool, &self.table).await
    }
}

fn connect_options(url: &str) -> Result<PgConnectOptions, Error> {
    let options = PgConnectOptions::from_str(url).map_err(|error| {
        let message = "postgres store: the URL looks like `postgres://user@host/database`";
        Error::new(ErrorKind::InvalidUrl, message).with_source(error)
    })?;
    Ok(match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("idempotent-runtime"),
    })
}

/// Connects once without the pool, which would only say that it has timed out.
async fn probe(options: &PgConnectOptions) -> Result<(), Error> {
    let connecting = PgConnection::connect_with(options);
    let failed = |source: StoreError| {
        Error::new(ErrorKind::Store, "postgres store: cannot connect").with_source(source)
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => {
            // It has served its purpose: how it ends does not matter.
            drop(connection.close().await);
            Ok(())
        }
        Ok(Err(error)) => Err(failed(store_error(error))),
        Err(_) => Err(failed(StoreError::new(NAME, StoreErrorKind::TimedOut))),
    }
}

/// As whole microseconds, at most a hundred years, which keeps all sums within the server's range.
fn micros(duration: Duration) -> i64 {
    const CENTURY: i64 = 100 * 365 * 24 * 60 * 60 * 1_000_000;
    i64::try_from(duration.as_micros()).map_or(CENTURY, |micros| micros.min(CENTURY))
}

fn statement(
    sql: &Arc<str>,
) -> sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments> {
    // The only thing put into it is a `TableName`.
    sqlx::query(AssertSqlSafe(Arc::clone(sql)))
}

#[async_trait]
impl Store for PostgresStore {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Claim, StoreError> {
        let row = self.groups.run(Operation::Claim(*request)).await?;
        rows::claim(&row)
    }

    async fn renew(&self, renewals: &[Renewal]) -> Result<Vec<Owner>, StoreError> {
        if renewals.is_empty() {
            return Ok(Vec::new());
        }
        let owners = || renewals.iter().map(|renewal| &renewal.owner);
        let keys: Vec<_> = owners().map(|owner| &owner.key.as_bytes()[..]).collect();
        let tokens: Vec<_> = owners().map(|owner| &owner.token.as_bytes()[..]).collect();
        let leases: Vec<_> = renewals
            .iter()
            .map(|renewal| micros(renewal.lease))
            .collect();
        let lost = statement(&self.statements.renew)
            .bind(keys)
            .bind(tokens)
            .bind(leases)
            .fetch_all(&self.pool)
            .await
            .map_err(store_error)?;
        lost.iter().map(|row| rows::lost(row, renewals)).collect()
    }

    async fn save_progress(&self, owner: &Owner, progress: &Bytes) -> Result<Progress, StoreError> {
        let row = statement(&self.statements.save_progress)
            .bind(&owner.key.as_bytes()[..])
            .bind(&owner.token.as_bytes()[..])
            .bind(&progress[..])
            .fetch_one(&self.pool)
            .await
            .map_err(store_error)?;
        rows::progress(&row)
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
    ) -> Result<Completion, StoreError> {
        let completion = Operation::completion(owner, response);
        let row = self.groups.run(completion).await?;
        rows::completion(&row)
    }

    async fn release(&self, owner: &Owner) -> Result<Release, StoreError> {
        let released = statement(&self.statements.release)
            .bind(&owner.key.as_bytes()[..])
            .bind(&owner.token.as_bytes()[..])
            .execute(&self.pool)
            .await
            .map_err(store_error)?;
        Ok(match released.rows_affected() {
            0 => Release::Lost,
            _ => Release::Released,
        })
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let row = statement(&self.statements.get)
            .bind(&key.as_bytes()[..])
            .fetch_optional(&self.pool)
            .await
            .map_err(store_error)?;
        row.as_ref().map(rows::record).transpose()
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        let removed = statement(&self.statements.remove)
            .bind(&key.as_bytes()[..])
            .execute(&self.pool)
            .await
            .map_err(store_error)?;
        Ok(removed.rows_affected() > 0)
    }

    async fn purge_expired(&self, limit: usize) -> Result<usize, StoreError> {
        let purged = statement(&self.statements.purge)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .execute(&self.pool)
            .await
            .map_err(store_error)?;
        Ok(usize::try_from(purged.rows_affected()).unwrap_or(limit))
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        match &self.hints {
            Some(listener) => listener.subscribe(key),
            None => Subscription::none(),
        }
    }

    fn transactor(&self) -> Option<Transactor> {
        let begin: Arc<dyn Begin<PgConnection>> = Arc::new(Transactions {
            pool: self.pool.clone(),
            table: self.table.clone(),
            begin: Arc::clone(&self.statements.begin),
            enter: Arc::clone(&self.statements.enter),
            record: Arc::clone(&self.statements.record),
            record_again: Arc::clone(&self.statements.record_again),
        });
        Some(begin.into())
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("table", &self.table)
            .field("connections", &self.pool.size())
            .field("hints", &self.hints)
            .finish_non_exhaustive()
    }
}
