//! Transactions: what a handler writes and its record are committed together, or not at all.
//!
//! A store with transactions hands out [sessions](Session). Whoever gets one is the only one who
//! runs for that key, by a lock that goes with the session; and whatever the lock is worth, the
//! primary key decides when the record is written. There is no running record that others see, no
//! lease and nothing to be found abandoned: what is not committed has not happened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{Owner, StoredResponse};

/// The savepoint between what a store has prepared and what the handler writes.
#[cfg(any(feature = "postgres", feature = "sqlite", feature = "mysql"))]
pub(super) const UNDO: &str = "ROLLBACK TO SAVEPOINT idempotent_handler";

/// Fails when the database has ended the transaction meanwhile, so that it is no longer the one which
/// was begun. With a record, that the record is gone says the same.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub(super) const IS_WHOLE: &str = "RELEASE SAVEPOINT idempotent_handler";

/// A request to become the one who runs, in a transaction.
#[derive(Clone, Debug)]
pub struct TransactionRequest {
    /// The record, and the token that it will be written with.
    pub owner: Owner,
    /// Other keys of the same request, under other secrets: locked and looked up after the owner's, in
    /// this order, and written together with it. Empty but while a secret is being rotated.
    pub aliases: Arc<[RecordKey]>,
    /// The operation, kept in the record in clear for operators.
    pub operation: Arc<str>,
    /// The application's own reference, kept likewise.
    pub label: Option<Arc<str>>,
    /// What the record's request must be equal to.
    pub fingerprint: Fingerprint,
    /// How long the record lives, from when it is written.
    pub ttl: Duration,
}

/// What became of a [`TransactionRequest`].
pub enum Begun<C> {
    /// The caller is the one who runs.
    Open(Box<dyn Session<C>>),
    /// There is a record, or another transaction is writing it.
    Settled(Settled),
}

impl<C> fmt::Debug for Begun<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(_) => f.write_str("Open(..)"),
            Self::Settled(settled) => settled.fmt(f),
        }
    }
}

/// Why a transaction was not begun.
#[derive(Clone, Debug)]
pub enum Settled {
    /// Somebody has completed it.
    Completed(Arc<StoredResponse>),
    /// Somebody else is running it: in a transaction, of which nothing is known but that (`None`), or
    /// under a claim of that lease.
    InFlight(Option<Duration>),
    /// Somebody was running it under a claim, whose lease has ended.
    Abandoned,
    /// The record is another request's.
    Mismatch,
}

/// Begins transactions.
#[async_trait]
pub trait Begin<C>: Send + Sync {
    /// Begins one unless there is a record already, or another transaction is at it. `None` is a
    /// transaction without a record, for a request that is not protected.
    ///
    /// Dropping the future leaves nothing behind: neither a lock nor an open transaction. Where a server could
    /// keep one because it does not hear that the connection is gone, it ends a transaction that has been
    /// idle for `idle_limit` by itself.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing has happened.
    async fn begin(
        &self,
        request: Option<&TransactionRequest>,
        idle_limit: Duration,
    ) -> Result<Begun<C>, StoreError>;
}

/// A transaction whose record is not written yet. Dropped, it is rolled back.
#[async_trait]
pub trait Session<C>: Send {
    /// What the handler writes through.
    fn connection(&mut self) -> &mut C;

    /// Whether the database has refused a statement and takes no other before
    /// [`undo`](Self::undo). Always `false` where a refused statement undoes itself.
    async fn is_failed(&mut self) -> bool;

    /// Whether the handler has ended the transaction by itself (a `COMMIT` of its own, or a statement that
    /// commits), so that what it wrote may be there whatever is rolled back now. Asked only of a transaction
    /// that was begun with a record. `false` where the database does not let it, and where that is not known.
    async fn is_ended(&mut self) -> bool;

    /// Takes back what was written through [`connection`](Self::connection), and keeps the lock.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction is lost, and nothing has happened.
    async fn undo(&mut self) -> Result<(), StoreError>;

    /// Writes the record, if it was begun with one, and commits.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; unless its kind says that nothing was written, it may have been committed.
    async fn commit(self: Box<Self>, response: &StoredResponse) -> Result<Committed, StoreError>;

    /// Takes everything back and frees the key.
    async fn roll_back(self: Box<Self>);
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The handler's writes and the record are there.
    Stored,
    /// The record could not be written, because the transaction was gone or another one's record
    /// was there first: everything was rolled back.
    Lost,
}

/// A store's way to transactions: see [`Store::transactor`](super::Store::transactor). Only the
/// stores of this crate have one.
#[derive(Clone)]
pub struct Transactor(Database);

#[derive(Clone)]
enum Database {
    #[cfg(feature = "postgres")]
    Postgres(Arc<dyn Begin<sqlx::PgConnection>>),
    #[cfg(feature = "sqlite")]
    Sqlite(Arc<dyn Begin<sqlx::SqliteConnection>>),
    #[cfg(feature = "mysql")]
    MySql(Arc<dyn Begin<sqlx::MySqlConnection>>),
}

/// A connection that a handler can borrow in its record's transaction (`#[tx] tx: &mut ...`):
/// sqlx's `PgConnection`, `SqliteConnection` and `MySqlConnection`, each with its cargo feature.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no connection that a handler can borrow",
    note = "`#[tx]` takes sqlx's `&mut PgConnection`, `&mut SqliteConnection` or `&mut MySqlConnection`, of sqlx 0.9, with the cargo feature `postgres`, `sqlite` or `mysql` of idempotent-runtime"
)]
pub trait TransactionConnection: Send + Sized + sealed::Of + 'static {
    /// The name of the store that has such connections.
    const STORE: &'static str;
}

#[doc(hidden)]
pub mod sealed {
    use std::sync::Arc;

    use super::{Begin, Transactor};

    pub trait Of: Sized {
        fn of(transactor: Transactor) -> Option<Arc<dyn Begin<Self>>>;
    }
}

macro_rules! connection {
    ($feature:literal, $store:literal, $variant:ident, $connection:ty) => {
        #[cfg(feature = $feature)]
        impl TransactionConnection for $connection {
            const STORE: &'static str = $store;
        }

        #[cfg(feature = $feature)]
        impl sealed::Of for $connection {
            #[allow(
                unreachable_patterns,
                reason = "with one SQL feature there is one variant"
            )]
            fn of(transactor: Transactor) -> Option<Arc<dyn Begin<Self>>> {
                match transactor.0 {
                    Database::$variant(begin) => Some(begin),
                    _ => None,
                }
            }
        }

        #[cfg(feature = $feature)]
        impl From<Arc<dyn Begin<$connection>>> for Transactor {
            fn from(begin: Arc<dyn Begin<$connection>>) -> Self {
                Self(Database::$variant(begin))
            }
        }
    };
}

connection!("postgres", "postgres", Postgres, sqlx::PgConnection);
connection!("sqlite", "sqlite", Sqlite, sqlx::SqliteConnection);
connection!("mysql", "mysql", MySql, sqlx::MySqlConnection);

impl fmt::Debug for Transactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactor").finish_non_exhaustive()
    }
}
