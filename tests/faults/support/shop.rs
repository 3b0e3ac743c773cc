//! The part of the application that writes in one transaction with its records, on each database.

use axum::Router;
use axum::extract::{FromRef, State};
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use idempotent_runtime::store::TransactionConnection;
use idempotent_runtime::{Attempt, Idempotency, Transactions, idempotent};
use sqlx::{AssertSqlSafe, MySqlConnection, PgConnection, SqliteConnection};

use super::Point;
use super::service::Till;

/// What a replay says, and the row does not: by it the network knows the record.
pub const PAID: &str = "paid: ";

/// A connection of any of the databases.
pub trait Sql: TransactionConnection {
    fn execute(&mut self, sql: String) -> impl Future<Output = sqlx::Result<()>> + Send;
}

macro_rules! sql {
    ($($connection:ty)+) => {$(
        impl Sql for $connection {
            async fn execute(&mut self, sql: String) -> sqlx::Result<()> {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(self).await.map(drop)
            }
        }
    )+};
}
sql!(PgConnection SqliteConnection MySqlConnection);

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
    written.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    till.reaches(Point::AfterEffect);
    till.pass_gate(key).await;
    Ok((StatusCode::CREATED, format!("{PAID}{line}")))
}

/// The routes of the store's database.
pub async fn routes(idempotency: &Idempotency, till: Till) -> Router {
    match idempotency.store().name() {
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
