//! SQLite: records in a file, for one machine.
//!
//! # The problem
//!
//! A service on one machine wants to survive its own crash without a database server. A file can do
//! that, but a record is worth something only once the disk has it, and waiting for the disk is so
//! slow that a claim at a time makes a few hundred in a second.
//!
//! # What it guarantees
//!
//! Every rule of [`Store`], for all threads and processes of one machine that have the file open.
//! **What was answered is on the disk**: the write-ahead log is flushed at every commit
//! (`synchronous = FULL`), and no call is answered before. So that this costs little, one writer
//! commits in groups: whatever comes in while a transaction is on its way to the disk makes up the
//! next one, and its claims are one statement, as are its completions. A caller that is alone waits for
//! no other, and a statement that fails, fails alone.
//!
//! A replay writes nothing. It is read on connections apart, also during another write; when
//! those are busy, what has come in meanwhile is read by one statement.
//!
//! ```no_run
//! use idempotent_runtime::Idempotency;
//! use idempotent_runtime::store::sqlite::SqliteStore;
//!
//! # async fn example(pool: sqlx::SqlitePool) -> Result<(), idempotent_runtime::Error> {
//! // A file of its own, made if it is missing:
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
//! | the machine loses power | all, if the disk keeps what it says it has flushed |
//! | the disk is lost, or a container's file system with the container | none: put the file on a volume, and that on a disk you trust |
//! | a backup is restored | those after the backup are gone, and their keys are free: **they run again** |
//! | the disk is full | all; new claims are refused and replays go on |
//! | the file is deleted, moved or replaced under the service | none but those of the file that is put in its place |
//!
//! # When it fails
//!
//! By SQLite's result code, never by its message. Nothing was written unless the error says otherwise, which
//! only that of a commit can.
//!
//! | what has happened | kind | |
//! | --- | --- | --- |
//! | another process, or the application, holds the write lock for longer than `busy_timeout` | [`Busy`](StoreErrorKind::Busy) | |
//! | the disk is full | [`Full`](StoreErrorKind::Full) | completions are retried until there is room; from then on each operation has a commit of its own, until they succeed again |
//! | read-only, no permission, no such path; a schema of another release, no table; a damaged file | [`Refused`](StoreErrorKind::Refused) | about the file, and not about one record |
//! | the file is gone | [`Refused`](StoreErrorKind::Refused) | it is not created again, and used once it is back; noticed by each write before and after it, and by each read |
//! | a record of more bytes than SQLite holds | [`TooLarge`](StoreErrorKind::TooLarge) | about the record |
//! | a row that no release has written | [`Corrupt`](StoreErrorKind::Corrupt) | about the record |
//! | the disk fails, the commit fails | [`Unavailable`](StoreErrorKind::Unavailable) | a commit may have happened |
//!
//! A call that is given up leaves the queue of the writer, and is not done later. Renewals, completions and
//! releases come before claims in that queue. A lock of another process is waited for in pieces of 50 ms, so
//! that nothing waits longer for a caller that has gone. The writer has a thread of its own, which goes
//! on when a caller's runtime ends.
//!
//! # Transactions
//!
//! SQLite has one writer at a time: while a handler with `#[tx]` runs, nothing else is written,
//! no claim and no renewal, in any process. So:
//!
//! * **Keep such handlers short**, and call no other service in them. A handler that hangs is rolled back after
//!   [`transaction_timeout`](crate::IdempotencyBuilder::transaction_timeout) (30 s), also when its client has left; until
//!   then, first requests are answered 503. Choose it shorter than the shortest lease, so that no lease
//!   ends meanwhile.
//! * Handlers have their turn in the order in which they have asked. The writer and the handlers take turns,
//!   so that renewals and completions wait for one handler and not for all of them.
//! * A handler that is cut off in a statement interrupts it. One that blocks its thread outside of SQLite
//!   cannot be cut off.
//! * A second file for the records of other handlers would not help: the record of a key has to be in the
//!   file that the effect is committed to, and a look-up of the key has to read there.
//! * A handler cannot commit by itself. If it changes the session (`PRAGMA`, `ATTACH`, temporary tables), the
//!   connection is closed after it and not lent again. It must not replace the connection's commit and
//!   progress hooks.
//! * A database in memory has no transactions.
//!
//! # Deployment
//!
//! * **One machine, a local disk.** The log needs memory that processes share, which no network share
//!   has; where SQLite says so itself, the store refuses to start. For several machines take a
//!   database server.
//! * **Connections and threads.** The store has its own: one that writes, up to three that read, one
//!   for handlers' transactions; each has a thread. None comes from the application's pool, so handlers that
//!   hold all of that pool starve nothing here, except by the write lock.
//! * **The clock is the machine's wall clock**, since processes share the file. Setting it moves
//!   leases and expiries by as much: let NTP slew it (`chronyd` and `ntpd` do), do not step it while the
//!   service runs.
//! * **Writers exclude each other.** In the application's own database, its long transactions hold up
//!   every claim, for as long as the pool's `busy_timeout` allows (5 s unless set), and then make it
//!   [`Busy`](StoreErrorKind::Busy). Keep them short, begin them with `BEGIN IMMEDIATE`, or give the
//!   store a file of its own.
//! * **The file has requests' answers in it**, readable by every process that may read the file.
//! * [`purge_expired`](Store::purge_expired) frees room for new records, at most a quarter of a record's TTL
//!   (or 5 minutes) after it has expired; the file does not shrink. The log is moved into it after 4000
//!   pages (16 MiB), whatever `wal_autocheckpoint` the pool's options ask for.
//! * Do not move, replace or delete the file under a running service, nor copy it without its `-wal`:
//!   `VACUUM INTO` and SQLite's backup interface make good copies. To restore one, stop the service,
//!   remove `-wal` and `-shm` together with the file, and then put the copy there. That the file itself
//!   was changed is noticed; that its `-wal` alone was deleted is not, and loses what is in it.
//! * `sqlite::memory:` is for tests: a database in memory goes with the store, or with the last
//!   connection of the pool that it came from. A URL without a path (`sqlite:`, as of an unset
//!   variable) is refused: SQLite would take it for a private temporary database.
//! * The schema version is the default of a column, which any dump of the table keeps. A table of another
//!   version is refused by every call.
//!
//! # The table
//!
//! The table and its columns are a stable interface: a later release adds columns, and gives the schema another version
//! when one changes its meaning. Read them; what others write is not checked. [`SqliteStore::migrations`]
//! is the SQL that makes them, for a tool of your own.
//!
//! | column | type | |
//! | --- | --- | --- |
//! | `key` | BLOB, 32 bytes | the record key |
//! | `request_hash` | BLOB, 32 bytes | the fingerprint |
//! | `state` | TEXT | `running` or `completed` |
//! | `token` | BLOB, 16 bytes | who holds the claim; NULL once its owner has abandoned it |
//! | `attempt` | INTEGER | 1, 2, ... |
//! | `operation` | TEXT | at most 128 bytes |
//! | `label` | TEXT | the application's own reference, at most 64 bytes, or NULL |
//! | `status_code` | INTEGER | of a completed response, for people |
//! | `response` | BLOB | of a completed record: see [`StoredResponse::encode`](crate::StoredResponse::encode) |
//! | `progress` | BLOB | finished steps of a claim that was not completed |
//! | `created_at` | INTEGER, microseconds since 1970 | the first claim |
//! | `lease_until` | INTEGER, microseconds since 1970 | a running record whose lease has ended is abandoned |
//! | `expires_at` | INTEGER, microseconds since 1970 | the record is absent from then on |
//! | `purge_at` | INTEGER, likewise | when the sweeper looks at it |
//! | `schema_version` | INTEGER | its default is the version of the schema, 3 |

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{SqliteConnection, SqlitePool};

use self::claims::TryClaim;
use self::database::Database;
use self::each::{Abandon, Each, Free, Item};
use self::failure::store_error;
use self::readers::Readers;
use self::row::{Columns, Row, Time};
use self::shared::Shared;
use self::statements::Statements;
use self::transaction::Transactions;
use self::writer::{Operation, Writer};
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

mod batch;
mod claims;
mod database;
mod each;
mod failure;
mod group;
mod operations;
mod queue;
mod readers;
mod row;
mod schema;
mod session;
mod shared;
mod statements;
#[cfg(test)]
mod tests;
mod transaction;
mod url;
mod writer;

const NAME: &str = "sqlite";

/// Records in an SQLite database. See the [module](self).
pub struct SqliteStore {
    options: SqliteConnectOptions,
    database: Arc<Database>,
    table: TableName,
    statements: Statements,
    readers: Arc<Readers>,
    writer: OnceLock<Writer>,
    shared: Arc<Shared>,
}

impl SqliteStore {
    /// A store in the database of this pool.
    ///
    /// It takes the pool's options and opens connections of its own with them: one that writes, up to
    /// three that read, and one for handlers' transactions. It does not run the pool's `after_connect`. The file is put into WAL
    /// mode and stays so; the pool's options must not ask for another `journal_mode`.
    ///
    /// Nothing happens before the first call. The table has to be there: see
    /// [`migrate`](Self::migrate).
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
    /// [`ErrorKind::InvalidName`] unless the name is 1 to 48 letters, digits and underscores, the
    /// first one no digit.
    pub fn with_table(self, name: &str) -> Result<Self, Error> {
        Ok(Self::with_options(self.options, TableName::new(name)?))
    }

    /// The store that a URL names, migrated: `sqlite:path`, `sqlite:///absolute/path` or
    /// `sqlite::memory:`.
    ///
    /// A file that is missing is created, unless the URL's `mode` says otherwise; its directory is
    /// not.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`], also when there is no path; [`ErrorKind::Store`] when the file cannot be
    /// opened, cannot be in WAL mode, or has a table of that name that is not this crate's or another
    /// release's.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let store = Self::with_options(url::options_of(url)?, TableName::default());
        store.migrate().await?;
        Ok(store)
    }

    /// Creates the table and its index where they are missing. Any number of processes may do so at
    /// once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`], as for [`connect`](Self::connect).
    pub async fn migrate(&self) -> Result<(), Error> {
        self.write(schema::Migrate).await.map_err(|error| {
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
        } = &self.statements;
        [create_table, create_index, create_listing_index]
            .map(|statement| format!("{};\n", statement.as_str().trim_end()))
            .join("\n")
    }

    fn with_options(options: SqliteConnectOptions, table: TableName) -> Self {
        let durable = options
            .clone()
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // On macOS the disk keeps what it has been given for itself unless it is told twice.
            .pragma("fullfsync", "ON")
            .pragma("checkpoint_fullfsync", "ON")
            // Pages of 4 KiB: a page that many claims have changed is moved to the file once, and
            // the two disk flushes of a checkpoint come a fourth as often.
            .pragma("wal_autocheckpoint", "4000");
        let statements = Statements::new(&table);
        let read_all = statements.read_all.clone();
        let database = Arc::new(Database::new(durable));
        Self {
            readers: Arc::new(Readers::new(Arc::clone(&database), read_all)),
            database,
            statements,
            options,
            table,
            writer: OnceLock::new(),
            shared: Arc::default(),
        }
    }

    /// Started by the first call: before it, the table can be another.
    fn writer(&self) -> Result<&Writer, StoreError> {
        if let Some(writer) = self.writer.get() {
            return Ok(writer);
        }
        let started = Writer::start(
            Arc::clone(&self.database),
            self.statements.clone(),
            Arc::clone(&self.shared),
        );
        let writer = started.map_err(|cause| {
            let error = StoreError::new(NAME, StoreErrorKind::Unavailable);
            error.not_executed().with_source(cause)
        })?;
        // Of two that are started at once, the one that comes late ends at once.
        Ok(self.writer.get_or_init(|| writer))
    }

    async fn write<O: Operation>(&self, operation: O) -> Result<O::Output, StoreError> {
        self.writer()?.run(operation).await
    }

    /// The answer to a claim, when that changes nothing and will be as true when the caller hears
    /// it: `None` sends it to the writer.
    async fn replay(&self, request: &ClaimRequest<'_>) -> Result<Option<Claim>, StoreError> {
        let (read, now) = (self.statements.read.clone(), Time::now());
        let columns = self.readers.look_up(read, &request.owner.key).await;
        let Some(row) = alive(columns, now)? else {
            return Ok(None);
        };
        Ok(
            match row.answer(&request.fingerprint, request.owner.token)? {
                claim @ (Claim::Completed(_) | Claim::Mismatch) => Some(claim),
                _ => None,
            },
        )
    }

    /// As many results as there are items.
    async fn each<I: Item>(&self, items: Vec<I>) -> Vec<Result<bool, StoreError>> {
        let number = items.len();
        if number == 0 {
            return Vec::new();
        }
        match self.write(Each(items)).await {
            Ok(done) => done.into_iter().map(|(_, is_done)| is_done).collect(),
            Err(error) => vec![Err(error); number],
        }
    }
}

/// The time is that before the look: a lease that is renewed in between is then never taken for ended.
fn alive(
    columns: Result<Option<Columns>, sqlx::Error>,
    now: Time,
) -> Result<Option<Row>, StoreError> {
    let columns = columns.map_err(store_error)?;
    let row = columns.map(|columns| Row::decode(columns, now));
    Ok(row.transpose()?.flatten())
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
        if self.database.is_readable()
            && let Some(claim) = self.replay(request).await?
        {
            return Ok(claim);
        }
        let claim = TryClaim::new(request, self.shared.expected_ttl());
        let (claim, _) = self.write(claim).await?;
        Ok(claim)
    }

    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        let renewed = |is_renewed| match is_renewed {
            true => Renewed::Renewed,
            false => Renewed::Lost,
        };
        let results = self.each(renewals.to_vec()).await;
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
        self.write(save).await
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        self.shared.expect_ttl(ttl);
        let complete = operations::Complete {
            owner: *owner,
            status: response.status,
            response: response.encode(),
            ttl,
        };
        let (completion, _) = self.write(complete).await?;
        Ok(completion)
    }

    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        let results = self.each(owners.iter().copied().map(Free).collect()).await;
        results.into_iter().map(|it| it.map(released)).collect()
    }

    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        let results = self
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
        self.write(give).await
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        if self.database.is_readable() {
            let (get, now) = (self.statements.get.clone(), Time::now());
            let columns = self.readers.fetch(get, key).await;
            return alive(columns, now)?.map(Row::record).transpose();
        }
        self.write(operations::Get(*key)).await
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        Ok(self.write(operations::Remove(*key)).await?.is_some())
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        self.write(operations::Purge { limit }).await
    }

    async fn list(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        let mut listing = InOrder::new(filter, cursor, limit, NAME)?;
        let list = match filter.lists_completed() {
            true => &self.statements.list,
            false => &self.statements.list_uncompleted,
        };
        loop {
            let look = operations::List {
                list: list.clone(),
                after: listing.after,
            };
            if !listing.add(self.write(look).await?) {
                return Ok(listing.finish());
            }
        }
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        Subscription::hint(self.shared.waiters.watch(*key))
    }

    fn transactor(&self) -> Option<Transactor> {
        let begin: Arc<dyn Begin<SqliteConnection>> = Arc::new(Transactions {
            database: Arc::clone(&self.database),
            statements: self.statements.clone(),
            readers: Arc::clone(&self.readers),
            shared: Arc::clone(&self.shared),
        });
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
