//! `#[tx]` on SQLite in such a test.

use axum::Router;
use axum::extract::FromRef;
use axum::routing::post;
use futures_util::FutureExt;
use idempotent_runtime::testing::{TemporarySqlite, crash_after_handler, hold_time, retry};
use idempotent_runtime::{ForgottenRoutesLayer, Idempotency, Transactions, idempotent};
use sqlx::{SqliteConnection, SqlitePool};

use super::request;

#[derive(Clone, FromRef)]
struct Shop {
    transactions: Transactions<SqliteConnection>,
}

#[idempotent(ttl_hours = 24)]
async fn pay(#[tx] tx: &mut SqliteConnection, amount: String) -> Result<String, String> {
    let insert = sqlx::query("INSERT INTO payments (amount) VALUES (?)");
    let inserted = insert.bind(amount.clone()).execute(&mut *tx).await;
    inserted.map_err(|error| error.to_string())?;
    Ok(format!("charged {amount}"))
}

async fn shop(database: &TemporarySqlite) -> (Router, SqlitePool) {
    let pool = SqlitePool::connect(database.url()).await.unwrap();
    let table = sqlx::query("CREATE TABLE payments (amount TEXT)");
    table.execute(&pool).await.unwrap();
    let idempotency = Idempotency::connect(database.url()).await.unwrap();
    let transactions = idempotency.transactions().await.unwrap();
    let app = Router::new()
        .route("/pay", post(pay))
        // A handler with a transaction is a protected one.
        .layer(ForgottenRoutesLayer::new().refuse(&idempotency))
        .with_state(Shop { transactions });
    (app, pool)
}

async fn payments(pool: &SqlitePool) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM payments");
    count.fetch_one(pool).await.unwrap()
}

async fn pays_once() {
    let database = TemporarySqlite::new().unwrap();
    let (app, pool) = shop(&database).await;
    let sent = retry(&app, request("/pay")).concurrently(16).twice();
    let answers = sent.assert_ran(1).await;
    assert_eq!(&answers.responses()[0].body()[..], b"charged 1000");
    assert_eq!(payments(&pool).await, 1);
}

#[tokio::test]
async fn transaction_runs_once() {
    pays_once().await;
}

#[tokio::test(start_paused = true)]
async fn transaction_runs_once_where_the_clock_is_paused() {
    let _held = hold_time();
    pays_once().await;
}

#[tokio::test]
async fn crash_in_a_transaction_leaves_nothing_to_be_abandoned() {
    let database = TemporarySqlite::new().unwrap();
    let (app, _) = shop(&database).await;
    let crash = std::panic::AssertUnwindSafe(crash_after_handler(&app, request("/pay")));
    assert!(crash.catch_unwind().await.is_err());
}

#[tokio::test]
async fn database_goes_with_its_test() {
    let database = TemporarySqlite::new().unwrap();
    let (app, pool) = shop(&database).await;
    let path = database.url().trim_start_matches("sqlite:");
    let path = std::path::PathBuf::from(path.trim_end_matches("?mode=rwc"));
    assert!(path.exists());
    pool.close().await;
    drop((app, database));
    assert!(!path.parent().unwrap().exists());
}
