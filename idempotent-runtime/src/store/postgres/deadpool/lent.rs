//! The connection that a handler borrows.

use std::fmt;
use std::ops::Deref;

use deadpool_postgres::{Client, Object};
use futures_util::FutureExt as _;

/// The transaction of a handler that writes by tokio-postgres: `#[tx] tx: &mut DeadpoolTransaction`.
///
/// It derefs to the pooled [`deadpool_postgres::Client`], and that to [`tokio_postgres::Client`], by shared reference: all
/// that reads and writes is there, `prepare_cached` too. What begins, commits or rolls back a transaction is not,
/// because that needs `&mut`: the runtime commits, and [`batch_execute`](tokio_postgres::Client::batch_execute) can set
/// a `SAVEPOINT`.
///
/// | a function that takes | is given |
/// | --- | --- |
/// | `&tokio_postgres::Client`, `&deadpool_postgres::Client` | `tx` |
/// | `&impl deadpool_postgres::GenericClient` | `&**tx` |
/// | `&impl tokio_postgres::GenericClient` | [`tx.client()`](Self::client) |
/// | `&Transaction<'_>` of either crate | nothing: make it `&impl GenericClient`, which takes a `Transaction` as well |
///
/// A `Transaction` cannot be lent: only a `BEGIN` of its own makes one, where the handler's transaction has long begun, and
/// its own `COMMIT` ends it, without the record.
///
/// ```no_run
/// use axum::{Json, Router, http::StatusCode, routing::post};
/// use deadpool_postgres::{GenericClient, Pool};
/// use idempotent_runtime::store::postgres::{DeadpoolTransaction, PostgresStore};
/// use idempotent_runtime::{Idempotency, Transactions, idempotent};
///
/// async fn insert(client: &impl GenericClient, amount: i64) -> Result<(), tokio_postgres::Error> {
///     let insert = client.prepare_cached("INSERT INTO payments (amount) VALUES ($1)").await?;
///     client.execute(&insert, &[&amount]).await?;
///     Ok(())
/// }
///
/// #[idempotent(ttl_hours = 24)]
/// async fn create_payment(
///     #[tx] tx: &mut DeadpoolTransaction,
///     Json(amount): Json<i64>,
/// ) -> Result<String, StatusCode> {
///     // Committed together with the stored response, or not at all.
///     insert(&**tx, amount).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
///     Ok(format!("charged {amount}"))
/// }
///
/// # async fn example(pool: Pool) -> Result<(), idempotent_runtime::Error> {
/// // With the application's pool, and connections of its own to the same database.
/// let store = PostgresStore::connect("postgres://app@db.internal/payments").await?;
/// let idempotency = Idempotency::new(store.with_deadpool(pool));
/// let transactions: Transactions<DeadpoolTransaction> = idempotency.transactions().await?;
/// let app: Router = Router::new()
///     .route("/payments", post(create_payment))
///     .with_state(transactions);
/// # drop(app);
/// # Ok(())
/// # }
/// ```
pub struct DeadpoolTransaction {
    /// Missing only once it is dropped.
    connection: Option<Client>,
    ended_well: bool,
}

impl DeadpoolTransaction {
    pub(super) fn new(connection: Client) -> Self {
        Self {
            connection: Some(connection),
            ended_well: false,
        }
    }

    /// The client, for functions that are generic over [`tokio_postgres::GenericClient`].
    #[must_use]
    pub fn client(&self) -> &tokio_postgres::Client {
        self
    }

    /// Every statement has had its reply, and the transaction has ended.
    pub(super) fn give_back(mut self) {
        self.ended_well = true;
    }

    /// Sends `ROLLBACK`. Who has the connection next need not wait for it: the server takes one after the other.
    pub(super) fn roll_back_and_give_back(self) {
        let sent = self.batch_execute("ROLLBACK").now_or_never();
        // The reply cannot be here yet: this is a connection that is closed.
        if sent.is_none() {
            self.give_back();
        }
    }
}

impl Deref for DeadpoolTransaction {
    type Target = Client;

    #[expect(clippy::expect_used, reason = "it is taken by `drop` only")]
    fn deref(&self) -> &Client {
        self.connection.as_ref().expect("a connection")
    }
}

/// A connection whose transaction has not ended well is closed, and the server rolls back. The pool would lend it with
/// the transaction still open.
impl Drop for DeadpoolTransaction {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take().filter(|_| !self.ended_well) {
            drop(Object::take(connection));
        }
    }
}

impl fmt::Debug for DeadpoolTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadpoolTransaction")
            .finish_non_exhaustive()
    }
}
