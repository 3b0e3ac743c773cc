//! [`Transactions`]: the handle for handlers that run in one transaction with their record.

use std::fmt;
use std::sync::Arc;

use super::Idempotency;
use crate::engine::try_transactions;
use crate::error::{Error, ErrorKind};
use crate::store::transaction::{Begin, TransactionConnection};

/// The handle for handlers that write in one transaction with their record (`#[tx]`).
///
/// A handler with a `#[tx]` parameter gets it from the router's state through axum's
/// [`FromRef`](axum::extract::FromRef), as other handlers get the [`Idempotency`]; without it the router does not
/// compile. Make it once, at start-up, from a store in the database that the handlers write to:
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{Json, Router, extract::FromRef, routing::post};
/// use idempotent_runtime::{Idempotency, Transactions, idempotent};
/// use sqlx::SqliteConnection;
///
/// #[derive(Clone)]
/// struct AppState {
///     transactions: Transactions<SqliteConnection>,
/// }
///
/// impl FromRef<AppState> for Transactions<SqliteConnection> {
///     fn from_ref(state: &AppState) -> Self {
///         state.transactions.clone()
///     }
/// }
///
/// #[idempotent(ttl_hours = 24)]
/// async fn create_payment(
///     #[tx] tx: &mut SqliteConnection,
///     Json(amount): Json<i64>,
/// ) -> Result<String, axum::http::StatusCode> {
///     // Committed together with the stored response, or not at all.
///     sqlx::query("INSERT INTO payments (amount) VALUES (?)")
///         .bind(amount)
///         .execute(&mut *tx)
///         .await
///         .map_err(|_| axum::http::StatusCode::INTERNAL_SERVER_ERROR)?;
///     Ok(format!("charged {amount}"))
/// }
///
/// # let folder = std::env::temp_dir().join(format!("idempotent-transactions-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let url = format!("sqlite:{}", folder.join("shop.db").display());
/// let idempotency = Idempotency::connect(&url).await?;
/// let transactions = idempotency.transactions::<SqliteConnection>().await?;
/// let app: Router = Router::new()
///     .route("/payments", post(create_payment))
///     .with_state(AppState { transactions });
/// # drop(app);
/// # drop(idempotency);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "sqlite"))]
/// # fn main() {}
/// ```
///
/// Cheap to clone.
pub struct Transactions<C: TransactionConnection> {
    idempotency: Idempotency,
    begin: Arc<dyn Begin<C>>,
}

impl Idempotency {
    /// The transactions of the store's database, whose connections are of type `C`: sqlx's
    /// `PgConnection`, `SqliteConnection` or `MySqlConnection`, or with a pool of deadpool-postgres the
    /// `DeadpoolTransaction` of the `PostgreSQL` store.
    ///
    /// It begins a transaction and rolls it back, so that a mistake shows at start-up and not with the first payment.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoTransactions`] when the store has no transactions, or is of another database or driver;
    /// [`ErrorKind::Store`] when a transaction could not be begun.
    pub async fn transactions<C: TransactionConnection>(&self) -> Result<Transactions<C>, Error> {
        let store = self.store();
        let begin = store.transactor().and_then(C::of).ok_or_else(|| {
            let message = match store.name() {
                name if name == C::STORE => format!(
                    "`#[tx]` uses a driver that this {name} store has no pool for: `DeadpoolTransaction` needs \
                     `PostgresStore::with_deadpool`; without it, borrow sqlx's `PgConnection`"
                ),
                name => format!(
                    "`#[tx]` uses a connection of the {} store, but the handle is on the {name} store: connect to \
                     the database that the handlers write to",
                    C::STORE,
                ),
            };
            Error::new(ErrorKind::NoTransactions, message)
        })?;
        let transactions = Transactions {
            idempotency: self.clone(),
            begin,
        };
        let tried = try_transactions(self.engine(), &*transactions.begin).await;
        tried.map_err(|refusal| {
            let message = format!("{} store: cannot begin a transaction", store.name());
            Error::new(ErrorKind::Store, message).with_source(refusal)
        })?;
        Ok(transactions)
    }
}

impl<C: TransactionConnection> Transactions<C> {
    /// The handle that these transactions belong to.
    #[must_use]
    pub fn idempotency(&self) -> &Idempotency {
        &self.idempotency
    }

    pub(crate) fn begin(&self) -> &dyn Begin<C> {
        &*self.begin
    }
}

impl<C: TransactionConnection> Clone for Transactions<C> {
    fn clone(&self) -> Self {
        Self {
            idempotency: self.idempotency.clone(),
            begin: Arc::clone(&self.begin),
        }
    }
}

impl<C: TransactionConnection> fmt::Debug for Transactions<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transactions")
            .field(&self.idempotency)
            .finish()
    }
}
