//! Transactions: a handler's writes and its record are committed together, or not at all.
//!
//! A store with transactions hands out [sessions](Session). The session holds a lock, so only its owner runs for that
//! key. Even if the lock fails, the primary key decides when the record is written. Other sessions see no running
//! record, there is no lease, and no record is abandoned: what was not committed has not happened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

#[cfg(any(feature = "postgres", feature = "sqlite", feature = "mysql"))]
use super::StoreErrorKind;
use super::{Claim, StoreError};
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{Owner, StoredResponse};

/// Returns to the savepoint between what a store has prepared and what the handler writes.
#[cfg(any(feature = "postgres", feature = "sqlite", feature = "mysql"))]
pub(super) const UNDO: &str = "ROLLBACK TO SAVEPOINT idempotent_handler";

/// Fails if the database has ended the transaction meanwhile, so that it is no longer the transaction that
/// was begun. For a transaction with a record, a missing record says the same.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub(super) const IS_WHOLE: &str = "RELEASE SAVEPOINT idempotent_handler";

/// A request to run a handler in a transaction.
#[derive(Clone, Debug)]
pub struct TransactionRequest {
    /// The record, and the token with which it will be written.
    pub owner: Owner,
    /// Other keys of the same request, under other secrets: locked and looked up after the owner's, in
    /// this order, and written together with it. Empty except while a secret is being rotated.
    pub aliases: Arc<[RecordKey]>,
    /// The operation, stored in the record in clear text for operators.
    pub operation: Arc<str>,
    /// The application's own reference, also stored in clear text.
    pub label: Option<Arc<str>>,
    /// The fingerprint that the record must have.
    pub fingerprint: Fingerprint,
    /// How long the record lives, counted from when it is written.
    pub ttl: Duration,
}

#[cfg(any(feature = "postgres", feature = "sqlite", feature = "mysql"))]
impl TransactionRequest {
    /// The keys of its records, in the order in which they are taken.
    pub(super) fn keys(&self) -> impl Iterator<Item = RecordKey> {
        std::iter::once(self.owner.key).chain(self.aliases.iter().copied())
    }
}

/// What becomes of a [`TransactionRequest`] whose transaction is not begun.
#[cfg(any(feature = "postgres", feature = "sqlite", feature = "mysql"))]
pub(super) type Settled = Claim<std::convert::Infallible>;

/// What a claim of the record has come to, unless it was acquired.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) fn settled(claim: Claim) -> Option<Settled> {
    match claim {
        Claim::Acquired(_) => None,
        Claim::Completed(response) => Some(Claim::Completed(response)),
        Claim::InFlight { lease_left } => Some(Claim::InFlight { lease_left }),
        Claim::Abandoned { attempt, age } => Some(Claim::Abandoned { attempt, age }),
        Claim::Mismatch => Some(Claim::Mismatch),
    }
}

/// When to ask again about another request's transaction or recovery function, of which nothing is known but that it runs: it
/// has no lease.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Begins transactions.
#[async_trait]
pub trait Begin<C>: Send + Sync {
    /// Begins a transaction unless there is already a record, or another transaction is running for the key. `None`
    /// begins a transaction without a record, for an unprotected request.
    ///
    /// Dropping the future leaves behind neither a lock nor an open transaction. If the server does not notice that the
    /// connection is lost, it ends the transaction by itself once it has been idle for `idle_limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing has happened.
    async fn begin(
        &self,
        request: Option<&TransactionRequest>,
        idle_limit: Duration,
    ) -> Result<Claim<Box<dyn Session<C>>>, StoreError>;
}

/// A transaction whose record is not written yet. Dropping it rolls it back.
#[async_trait]
pub trait Session<C>: Send {
    /// The connection through which the handler writes.
    fn connection(&mut self) -> &mut C;

    /// Whether the database has rejected a statement and accepts no other before
    /// [`undo`](Self::undo). Always `false` for a database in which a rejected statement undoes itself.
    async fn is_failed(&mut self) -> bool;

    /// Ends a transaction that is not going to be committed, and returns its fate. Rolls back the handler's writes, as
    /// [`undo`](Self::undo) does, and ends any statement that still runs on the connection.
    async fn fate(&mut self) -> Fate;

    /// Rolls back what was written through [`connection`](Self::connection), and keeps the lock. A connection that is
    /// silent for `limit` is given up, unless its server is known to be still rolling back (MySQL).
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction is lost, and nothing has happened.
    async fn undo(&mut self, limit: Duration) -> Result<(), StoreError>;

    /// Writes the record, if the transaction was begun with one, and commits. Each call on the connection may take up
    /// to `limit`. If the connection is silent for longer, finding out the fate of the transaction can take as long
    /// again.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; where [it may have happened](crate::store::StoreError::may_have_happened), the transaction may
    /// have been committed.
    async fn commit(
        self: Box<Self>,
        response: &StoredResponse,
        limit: Duration,
    ) -> Result<Committed, StoreError>;

    /// Rolls everything back and frees the key.
    async fn roll_back(self: Box<Self>);

    /// Rolls back what is left of a transaction that [the handler has ended](Fate::Ended), and keeps a record that says that
    /// its outcome is unknown, where that can be written. In a database in which the record was committed by the handler,
    /// there is one already.
    async fn abandon(self: Box<Self>) {
        self.roll_back().await;
    }
}

impl<C> fmt::Debug for dyn Session<C> + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session(..)")
    }
}

/// The fate of a transaction that is not committed with its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is rolled back, and nothing of it remains.
    Undone,
    /// The handler has ended it itself (with its own `COMMIT`, or a statement that commits), so that its writes may remain.
    Ended,
    /// It cannot be asked, and may still be committed by its handler. Its key is locked until that is decided.
    Undecided,
}

#[cfg(feature = "postgres")]
impl Fate {
    /// What is said of a transaction without a record that could not be committed.
    pub(super) const fn without_record(self) -> Committed {
        match self {
            Self::Undone => Committed::Lost,
            Self::Ended | Self::Undecided => Committed::Unknown,
        }
    }
}

/// Within a time. Dropped at its end, the session's connection is closed.
#[cfg(any(feature = "postgres", feature = "sqlite", feature = "mysql"))]
pub(super) async fn bounded<T>(
    store: &'static str,
    limit: Duration,
    commit: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let silent = |_| Err(StoreError::new(store, StoreErrorKind::TimedOut));
    tokio::time::timeout(limit, commit)
        .await
        .unwrap_or_else(silent)
}

/// How long a connection may take to return to the savepoint before something is taken to run there still.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) const SILENCE: Duration = Duration::from_millis(250);

/// When to ask again for the fate of what was ended a moment ago.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) const ASK_FOR_FATE: [Duration; 6] = {
    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
    [
        millis(5),
        millis(20),
        millis(50),
        millis(100),
        millis(200),
        millis(400),
    ]
};

/// The result of committing a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The handler's writes and the record are committed.
    Stored,
    /// The record could not be written, because the transaction was gone or another record
    /// was written first: everything was rolled back.
    Lost,
    /// The handler has ended the transaction itself, and the record could not be written with the answer: the handler's
    /// writes may have been committed.
    Unknown,
}

/// A store's entry point to transactions: see [`Store::transactor`](super::Store::transactor). Only the
/// stores of this crate have one.
#[derive(Clone)]
pub struct Transactor(System);

#[derive(Clone)]
enum System {
    #[cfg(feature = "postgres")]
    Postgres(Arc<dyn Begin<sqlx::PgConnection>>),
    #[cfg(feature = "tokio-postgres")]
    Deadpool(Arc<dyn Begin<super::postgres::DeadpoolTransaction>>),
    #[cfg(feature = "sqlite")]
    Sqlite(Arc<dyn Begin<sqlx::SqliteConnection>>),
    #[cfg(feature = "mysql")]
    MySql(Arc<dyn Begin<sqlx::MySqlConnection>>),
}

/// A connection that a handler can borrow in its record's transaction (`#[tx] tx: &mut ...`):
/// sqlx's `PgConnection`, `SqliteConnection` and `MySqlConnection`, and for tokio-postgres the `DeadpoolTransaction` of the
/// `PostgreSQL` store, each with its cargo feature.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a connection that a handler can borrow",
    note = "`#[tx]` takes sqlx's `&mut PgConnection`, `&mut SqliteConnection` or `&mut MySqlConnection`, of sqlx 0.9, with the cargo feature `postgres`, `sqlite` or `mysql` of idempotent-runtime",
    note = "or `&mut DeadpoolTransaction` of `idempotent_runtime::store::postgres`, for tokio-postgres, with the cargo feature `tokio-postgres`"
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
        /// A response's body can go on reading the transaction's rows when its handler is done.
        const BODIES_READ_ON: bool;

        fn of(transactor: Transactor) -> Option<Arc<dyn Begin<Self>>>;
    }
}

macro_rules! connection {
    ($feature:literal, $store:literal, $variant:ident, $connection:ty, $bodies_read_on:literal) => {
        #[cfg(feature = $feature)]
        impl TransactionConnection for $connection {
            const STORE: &'static str = $store;
        }

        #[cfg(feature = $feature)]
        impl sealed::Of for $connection {
            const BODIES_READ_ON: bool = $bodies_read_on;

            #[allow(
                unreachable_patterns,
                reason = "with one SQL feature there is one variant"
            )]
            fn of(transactor: Transactor) -> Option<Arc<dyn Begin<Self>>> {
                match transactor.0 {
                    System::$variant(begin) => Some(begin),
                    _ => None,
                }
            }
        }

        #[cfg(feature = $feature)]
        impl From<Arc<dyn Begin<$connection>>> for Transactor {
            fn from(begin: Arc<dyn Begin<$connection>>) -> Self {
                Self(System::$variant(begin))
            }
        }
    };
}

connection!("postgres", "postgres", Postgres, sqlx::PgConnection, false);
connection!(
    "tokio-postgres",
    "postgres",
    Deadpool,
    super::postgres::DeadpoolTransaction,
    true
);
connection!("sqlite", "sqlite", Sqlite, sqlx::SqliteConnection, false);
connection!("mysql", "mysql", MySql, sqlx::MySqlConnection, false);

impl fmt::Debug for Transactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactor").finish_non_exhaustive()
    }
}
