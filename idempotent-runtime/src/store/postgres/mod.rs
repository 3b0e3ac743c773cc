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
//! // Or beside the one that the application has, which `#[tx]` uses:
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
//! | the server dies, or loses power | everything that was acknowledged | `synchronous_commit = off`: the last fraction of a second is forgotten, and **those requests run again**; `fsync = off`: anything may be gone |
//! | fail-over to a replica | everything that was acknowledged | asynchronous replication: what the replica had not received is forgotten, and **runs again** |
//! | restoring a backup, or point-in-time recovery | what the backup has | the same: every later key is forgotten |
//!
//! Where money moves: `fsync = on`, `full_page_writes = on` and `synchronous_commit = on` (the
//! defaults, and not switched off for the role or the database; [`migrate`](PostgresStore::migrate)
//! warns when they are), and with replicas `synchronous_standby_names` naming at least one that a
//! fail-over chooses. Never make the table `UNLOGGED`: a crash empties it.
//!
//! # Connections
//!
//! The store opens connections of its own, with the connect options of the pool it was made with. A handler
//! that holds a connection of the pool is never in the way of a renewal or a completion, whatever the size
//! of the pool. Hooks of the pool (`after_connect`, `before_acquire`) do not apply to them.
//!
//! | connections | how many, for each runtime | used for | when there are none |
//! | --- | --- | --- | --- |
//! | work | as many as the pool has, 2 to 16 ([`with_connections`](PostgresStore::with_connections)) | claims, completions, reads, progress | a call waits for one for up to 5 s |
//! | leases | 2 | renewals, releases, abandoning | the same; neither waits for the other |
//! | hints | 1, from the first waiter on | `LISTEN` | waiters poll |
//! | the application's pool | what its handlers need at once | handlers; `#[tx]` from the look at the record to `COMMIT` | a `#[tx]` request is answered 503, and nothing has happened |
//!
//! So one process with one runtime needs up to 19 connections more than its pool, and a service needs that
//! for each instance: compare with `max_connections` of the server. They are opened when they are needed,
//! and closed after 10 minutes without use, or after 30 in any case. What is too much for the work
//! connections goes in groups, so that a few are enough: 4 serve thousands of requests in a second.
//!
//! Their sessions are set to `lock_timeout` 500 ms and `statement_timeout` 10 s, unless the connect options
//! name other values, and to `READ COMMITTED`. So a claim or a completion of a record that another
//! transaction holds is [`Busy`](crate::store::StoreErrorKind::Busy) after half a second, and what the
//! application gave up ends in the server as well.
//!
//! A connection is used again only after a reply. One whose call was given up, that broke, that says that it
//! is read-only, or that has prepared what no longer fits, is closed, and with it all that are idle and
//! were last heard of before; the call is sent once more on a fresh connection if its own was an idle one.
//! So connections that the server has ended, a restart, a fail-over behind one address and `ALTER TABLE` fail
//! no call once a fresh connection works, and a peer that is silent costs one time-out. `#[tx]` treats the
//! connections of the application's pool in the same way, also where that is set to
//! `test_before_acquire(false)`.
//!
//! # Transactions
//!
//! `#[tx]` takes three round trips more than the handler's own transaction. Its isolation is the pool's
//! default, as for any other transaction of the application. Under `REPEATABLE READ` and `SERIALIZABLE` the
//! server may refuse a transaction with 40001, also because of an unrelated one: the request is
//! answered 503, nothing has happened, and its retry runs. `READ COMMITTED` is enough for the record.
//!
//! A handler may change its role, its `search_path`, its limits and other settings for its transaction
//! (`SET LOCAL`, `set_config(.., true)`): the record is written by the role and with the settings that
//! the session had at the beginning. What it changes for the session is found out for the settings that
//! matter to others (role, `search_path`, time-outs, read-only, isolation, and some more), and that
//! connection is closed and not reused. Settings of the application's own (`app.tenant`), temporary
//! tables, `LISTEN` and advisory locks of the session are not looked at. A handler that makes its transaction
//! `READ ONLY` cannot have a record: 503.
//!
//! A connection that is gone without a word (no FIN, no RST) does not keep its locks: for the transaction,
//! `idle_in_transaction_session_timeout` is set to 5 s more than
//! [`transaction_timeout`](crate::IdempotencyBuilder::transaction_timeout), and the key is in flight for so long at most.
//!
//! A `COMMIT` that gets no reply in time may have happened: the answer is 409 `in-flight`, and the retry
//! finds the record or runs.
//!
//! # Deployment caveats
//!
//! * **`PgBouncer`** in session mode is transparent. Transaction mode takes 1.21 or newer with
//!   `max_prepared_statements` above 0, and sqlx's statement cache left on: sqlx prepares in one
//!   round trip and executes in the next, which an older `PgBouncer` may send to two servers.
//!   `statement_cache_capacity(0)` is no way around it: it only means that the statements are never
//!   closed. `LISTEN` is of no use there: [`without_notifications`](PostgresStore::without_notifications) saves
//!   the connection. A `PgBouncer` that refuses start-up parameters is found out, and the store connects
//!   without its settings: set them for the role
//!   (`ALTER ROLE app SET lock_timeout = '500ms'`, `default_transaction_isolation = 'read committed'`).
//!   In transaction mode no handler may `SET` anything for its session, as ever.
//! * **Fail-over and replicas.** Read-only replicas cannot hold claims; the URL must lead to the primary.
//!   While the database is read-only, calls are [`Refused`](crate::store::StoreErrorKind::Refused), which
//!   is never final, and no `#[tx]` handler runs.
//! * **Passwords.** A password that changes is given to the pool by `set_connect_options`; the store connects
//!   with what the pool has at that time.
//! * **Privileges.** [`migrate`](PostgresStore::migrate) creates a table, two indexes, six functions
//!   and two triggers when they are not there, so the first one needs `CREATE` on the schema. After
//!   that `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the table will do, for later migrations of the
//!   same release too.
//! * **Schema.** The table is looked up once, by the `search_path` of a fresh session or in the schema that
//!   [`with_schema`](PostgresStore::with_schema) names, and is named with its schema from then on. Its
//!   version is the default of its column `schema_version`, which any dump keeps.
//! * **Sweeping.** Expired rows are absent whether or not they are there. The engine purges them now and
//!   then, so that the table does not grow; of several processes one does the work. A completed row
//!   can outlive its expiry by an eighth of its TTL before it is removed.
//! * **Encoding.** Operations are stored as text. A database that is not in UTF-8 refuses those it cannot
//!   represent.
//!
//! # The table
//!
//! The table and its columns are a stable interface: a later release adds columns, and gives the schema another version
//! when one changes its meaning. Read them; what others write is not checked. [`PostgresStore::migrations`]
//! is the SQL that makes them, for a tool of your own.
//!
//! | column | type | |
//! | --- | --- | --- |
//! | `key` | bytea, 32 bytes | the record key |
//! | `request_hash` | bytea, 32 bytes | the fingerprint |
//! | `state` | smallint | 1 running, 2 completed |
//! | `token` | bytea, 16 bytes | who holds the claim; NULL once its owner has abandoned it |
//! | `attempt` | integer | 1, 2, ... |
//! | `operation` | text | at most 128 bytes |
//! | `label` | text | the application's own reference, at most 64 bytes, or NULL |
//! | `status_code` | smallint | of a completed response, for people |
//! | `response` | bytea | of a completed record: see [`StoredResponse::encode`](crate::StoredResponse::encode) |
//! | `progress` | bytea | finished steps of a claim that was not completed |
//! | `created_at` | timestamptz | the first claim |
//! | `lease_until` | timestamptz | a running record whose lease has ended is abandoned |
//! | `expires_at` | timestamptz | the record is absent from then on |
//! | `waited` | boolean | whether the end of the claim is to be notified |
//! | `purge_at` | timestamptz | when the sweeper looks at it |
//! | `schema_version` | smallint | its default is the version of the schema, 3 |
//!
//! # Groups
//!
//! A commit waits for the disk, and that wait is nearly all a claim or a completion costs. While few
//! are under way, each goes at once, by a statement of its own. When there are as many as four fifths
//! of the work connections, the others queue, and the next connection takes all that is
//! queued, up to 128: one round trip, one commit. A single operation does not wait: there is no timer. A
//! replay that happens to be in a group waits for its commit; a group of replays writes nothing. Each
//! runtime has groups of its own.
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
//! in groups. So only a record with a waiter notifies of the end of its claim: the first one
//! to wait for it in a process marks the record, in one call, and a trigger whose condition is that
//! mark does the rest. Claims and completions of all others cost what they cost without it.
//! (PostgreSQL 15, 16 connections, two busy cores, `pgbench`, three runs in turn: 1,110 pairs of a
//! claim and a completion in a second without trigger and mark, 1,160 with them and no waiter,
//! 250 when each completion notifies.)
//!
//! The first one to wait in a process opens one connection that listens. It is
//! opened again when it is lost, and goes with the store. Where there is no such connection, or where it hears
//! nothing, waiters look. [`without_notifications`](PostgresStore::without_notifications) does without it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use self::connector::Connector;
use self::hints::Listener;
use self::records::Records;
use self::schema::Place;
use self::transaction::Transactions;
use super::listing::{InOrder, LOOK};
use super::sql::TableName;
use super::transaction::Begin;
use super::{
    Claim, ClaimRequest, Completion, ListCursor, ListFilter, Listing, Progress, Purged, Release,
    Renewal, Renewed, Store, StoreError, StoreErrorKind, Subscription, Transactor,
};
use crate::error::Error;
use crate::key::RecordKey;
use crate::record::{Owner, Record, StoredResponse};

mod connector;
mod error;
mod groups;
mod hints;
mod lane;
mod lanes;
mod operation;
mod records;
mod rows;
mod schema;
mod statements;
mod transaction;

const NAME: &str = "postgres";

/// The most connections for claims and completions, unless it is told otherwise.
const MOST_CONNECTIONS: u32 = 16;

/// How long an idle connection may take to answer about leases.
const PATIENCE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(1);

/// Records in a table of PostgreSQL. See the [module](self).
pub struct PostgresStore {
    records: Arc<Records>,
    /// `None`: waiters here poll.
    hints: Option<Listener>,
}

impl PostgresStore {
    /// A store in the table `idempotency_records` of the pool's database.
    ///
    /// The pool is the application's: it is used for `#[tx]`, and its connect options for the connections
    /// that the store opens for itself ([pool sizing](self#connections)). Nothing is connected yet.
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
    /// Default: as many as the pool has, at most 16.
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
            hints: None,
            ..self
        }
    }

    fn of(records: Records) -> Self {
        Self {
            records: Arc::new(records),
            hints: None,
        }
    }

    fn with_notifications(self) -> Self {
        let hints = Some(Listener::new(Arc::clone(&self.records)));
        Self { hints, ..self }
    }

    fn anew(self, connections: Option<u32>, place: Place) -> Self {
        let connections = connections.unwrap_or_else(|| self.records.connections());
        let connector = self.records.connector().clone();
        let store = Self::of(Records::new(connector, connections, place));
        match self.hints {
            Some(_) => store.with_notifications(),
            None => store,
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
        let options = connector::parse(url)?;
        connector::probe(&options).await?;
        let store = Self::new(connector::pool(options));
        store.migrate().await?;
        Ok(store)
    }

    /// Creates the table, its indexes, functions and triggers, unless they are there.
    ///
    /// Any number of processes may call it at once. It warns (by `tracing`) when the server is set
    /// to lose acknowledged commits.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) when the server cannot be reached or refuses, when another release has
    /// migrated the table, or when there is a table of that name that is not this crate's.
    pub async fn migrate(&self) -> Result<(), Error> {
        self.records.migrate().await
    }

    /// The statements that [`migrate`](Self::migrate) runs where there is no table: for a database administrator, or
    /// a migration of `sqlx migrate` or another tool. `migrate` then finds the table and leaves it alone.
    ///
    /// All is named with the schema of [`with_schema`](Self::with_schema), or `public` without one, and with the table
    /// of [`with_table`](Self::with_table). Run them in one transaction.
    #[must_use]
    pub fn migrations(&self) -> String {
        schema::migrations(self.records.place())
    }
}

/// As whole microseconds, at most a hundred years, which keeps all sums within the server's range.
fn micros(duration: Duration) -> i64 {
    const CENTURY: i64 = 100 * 365 * 24 * 60 * 60 * 1_000_000;
    i64::try_from(duration.as_micros()).map_or(CENTURY, |micros| micros.min(CENTURY))
}

fn statement(sql: &Arc<str>) -> lane::Query<'static> {
    // The only things put into it are a `TableName` and a quoted schema.
    sqlx::query(AssertSqlSafe(Arc::clone(sql)))
}

#[async_trait]
impl Store for PostgresStore {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        rows::claim(&self.records.claim(request).await?)
    }

    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        let Some(shortest) = renewals.iter().map(|renewal| renewal.lease).min() else {
            return Vec::new();
        };
        let leases = renewals.iter().map(|renewal| micros(renewal.lease));
        let retentions = renewals.iter().map(|renewal| micros(renewal.retention));
        let times = Some((leases.collect(), retentions.collect()));
        let owners = renewals.iter().map(|renewal| &renewal.owner);
        let patience = (shortest / 4).clamp(*PATIENCE.start(), *PATIENCE.end());
        let renewing = self
            .records
            .of_leases(owners, |sql| &sql.renew, times, patience);
        let (done, lost) = (Renewed::Renewed, Renewed::Lost);
        rows::each(renewing.await, renewals.len(), done, lost)
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
        let sql = self.records.statements().await?;
        let lanes = self.records.lanes()?;
        let saving = lanes.work.rows(None, || {
            statement(&sql.save_progress)
                .bind(&owner.key.as_bytes()[..])
                .bind(&owner.token.as_bytes()[..])
                .bind(offset)
                .bind(&bytes[..])
        });
        rows::progress(&rows::one(saving.await?)?)
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        rows::completion(&self.records.complete(owner, response, ttl).await?)
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
        let sql = self.records.statements().await?;
        let lanes = self.records.lanes()?;
        let giving = || {
            statement(&sql.give_grace)
                .bind(&key.as_bytes()[..])
                .bind(i64::from(attempt))
                .bind(micros(grace))
                .bind(micros(retention))
        };
        let rows = lanes.work.rows(None, giving).await?;
        Ok(!rows.is_empty())
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let sql = self.records.statements().await?;
        let lanes = self.records.lanes()?;
        let reading = || statement(&sql.get).bind(&key.as_bytes()[..]);
        let rows = lanes.work.rows(None, reading).await?;
        rows.first().map(rows::record).transpose()
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        let sql = self.records.statements().await?;
        let lanes = self.records.lanes()?;
        let removing = || statement(&sql.remove).bind(&key.as_bytes()[..]);
        let rows = lanes.work.rows(None, removing).await?;
        Ok(!rows.is_empty())
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        let sql = self.records.statements().await?;
        let lanes = self.records.lanes()?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let purging = || statement(&sql.purge).bind(limit);
        rows::purged(&lanes.work.rows(None, purging).await?)
    }

    async fn list(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        let mut listing = InOrder::new(filter, cursor, limit, NAME)?;
        let sql = self.records.statements().await?;
        let sql = match filter.lists_completed() {
            true => &sql.list,
            false => &sql.list_uncompleted,
        };
        let lanes = self.records.lanes()?;
        loop {
            let after = listing.after;
            let reading = || statement(sql).bind(&after.as_bytes()[..]).bind(LOOK as i64);
            let rows = lanes.work.rows(None, reading).await?;
            if !listing.add(rows::listed(&rows)) {
                return Ok(listing.finish());
            }
        }
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        match &self.hints {
            Some(listener) => listener.subscribe(key),
            None => Subscription::none(),
        }
    }

    fn transactor(&self) -> Option<Transactor> {
        let begin: Arc<dyn Begin<PgConnection>> = Arc::new(Transactions(Arc::clone(&self.records)));
        Some(begin.into())
    }
}

impl PostgresStore {
    async fn end(
        &self,
        owners: &[Owner],
        which: impl Fn(&statements::Statements) -> &Arc<str> + Send + Sync,
    ) -> Vec<Result<Release, StoreError>> {
        if owners.is_empty() {
            return Vec::new();
        }
        let patience = *PATIENCE.end();
        let ending = self.records.of_leases(owners.iter(), which, None, patience);
        let (done, lost) = (Release::Released, Release::Lost);
        rows::each(ending.await, owners.len(), done, lost)
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("table", self.records.table())
            .field("schema", &self.records.place().schema)
            .field("connections", &self.records.connections())
            .field("hints", &self.hints)
            .finish_non_exhaustive()
    }
}
