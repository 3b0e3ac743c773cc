//! The part of the application that writes in one transaction with its records, on each database.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::routing::post;
use deadpool_postgres::{Manager, Pool};
use http::{HeaderMap, StatusCode};
use idempotent_runtime::store::postgres::{DeadpoolTransaction, PostgresStore};
use idempotent_runtime::store::{Store, TransactionConnection};
use idempotent_runtime::{Attempt, Error, Idempotency, Transactions, idempotent};
use sqlx::{AssertSqlSafe, MySqlConnection, PgConnection, SqliteConnection};
use tokio_postgres::NoTls;

use super::Point;
use super::service::Till;

/// What a replay says, and the row does not: by it the network knows the record.
pub const PAID: &str = "paid: ";

/// A connection of any of the databases.
pub trait Sql: TransactionConnection {
    fn execute(&mut self, sql: String) -> impl Future<Output = Result<(), String>> + Send;
}

macro_rules! sql {
    ($($connection:ty)+) => {$(
        impl Sql for $connection {
            async fn execute(&mut self, sql: String) -> Result<(), String> {
                let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(self).await;
                done.map(drop).map_err(|error| error.to_string())
            }
        }
    )+};
}
sql!(PgConnection SqliteConnection MySqlConnection);

impl Sql for DeadpoolTransaction {
    async fn execute(&mut self, sql: String) -> Result<(), String> {
        let done = self.batch_execute(&sql).await;
        done.map_err(|error| error.to_string())
    }
}

/// The store, and a pool of deadpool-postgres in the same database.
pub async fn on_deadpool(url: &str) -> Result<Arc<dyn Store>, Error> {
    let manager = Manager::new(url.parse().expect("a URL"), NoTls);
    let pool = Pool::builder(manager).max_size(10).build().expect("a pool");
    let store = PostgresStore::connect(url).await?;
    Ok(Arc::new(store.with_deadpool(pool)))
}

struct Shop<C: TransactionConnection> {
    transactions: Transactions<C>,
    till: Till,
}

/// Not derived: a connection cannot be cloned.
impl<C: TransactionConnection> Clone for Shop<C> {
    fn clone(&self) -> Self {
        Self {
            transactions: self.transactions.clone(),
            till: self.till.clone(),
        }
    }
}

impl<C: TransactionConnection> FromRef<Shop<C>> for Transactions<C> {
    fn from_ref(shop: &Shop<C>) -> Self {
        shop.transactions.clone()
    }
}

impl<C: TransactionConnection> FromRef<Shop<C>> for Till {
    fn from_ref(shop: &Shop<C>) -> Self {
        shop.till.clone()
    }
}

/// The effect is a row, and nothing else.
#[idempotent]
async fn pay<C: Sql>(
    State(till): State<Till>,
    headers: HeaderMap,
    attempt: Attempt,
    #[tx] tx: &mut C,
) -> Result<(StatusCode, String), (StatusCode, String)> {
    let key = headers["idempotency-key"].to_str().expect("ASCII");
    let record = attempt.record_key().expect("a record").to_hex();
    let line = format!("{key} in process {}", std::process::id());
    till.reaches(Point::BeforeEffect);
    let row = format!("INSERT INTO payments VALUES ('{key}', '{record}', '{line}')");
    let written = tx.execute(row).await;
    written.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error))?;
    till.reaches(Point::AfterEffect);
    till.pass_gate(key).await;
    Ok((StatusCode::CREATED, format!("{PAID}{line}")))
}

/// The routes of the store's database.
pub async fn routes(idempotency: &Idempotency, till: Till, is_deadpool: bool) -> Router {
    match idempotency.store().name() {
        _ if is_deadpool => routes_of::<DeadpoolTransaction>(idempotency, till).await,
        "postgres" => routes_of::<PgConnection>(idempotency, till).await,
        "sqlite" => routes_of::<SqliteConnection>(idempotency, till).await,
        "mysql" => routes_of::<MySqlConnection>(idempotency, till).await,
        other => panic!("{other} has no transactions"),
    }
}

async fn routes_of<C: Sql>(idempotency: &Idempotency, till: Till) -> Router {
    let transactions = idempotency.transactions().await;
    let transactions = transactions.expect("transactions");
    Router::new()
        .route("/pay", post(pay::<C>))
        .with_state(Shop { transactions, till })
}
