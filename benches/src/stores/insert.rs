//! What an application does in a transaction: alone, with a record of its request that it writes by itself, and with `#[tx]`.
//!
//! The one by itself locks the key (on MySQL and SQLite the primary key decides), looks for a record, compares the request with
//! it, and writes the record. It does without the rest of `#[tx]`: no savepoint, no failures that are kept, no handler
//! that commits or changes its role or `search_path`, no limit for a client that has gone silent.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::routing::{MethodRouter, post};
use axum::{Json, Router};
use idempotent_runtime::store::Store;
use idempotent_runtime::store::mysql::MySqlStore;
use idempotent_runtime::store::postgres::PostgresStore;
use idempotent_runtime::store::sqlite::SqliteStore;
use idempotent_runtime::{Idempotency, Transactions, idempotent};
use sha2::{Digest as _, Sha256};
use sqlx::pool::PoolOptions;
use sqlx::{MySqlConnection, PgConnection, Row as _, SqliteConnection};
use tower::ServiceExt as _;

use super::connect::CONNECTIONS;
use super::insert_by_tokio_postgres;
use super::load::Driver;
use crate::Failure;
use crate::till::{Payment, PaymentRequest, Till};

/// 200 bytes, as requests have them.
const BODY: &str = r#"{"amount":4200,"currency":"EUR","order_id":"order-0123456789","note":"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"}"#;

/// Applications without idempotency and with it, on the same pool and the same table.
pub(super) struct Inserts {
    pub(super) driver: Driver,
    pub(super) alone: Router,
    /// Written for `sqlx` only.
    pub(super) by_hand: Option<Router>,
    pub(super) with_record: Router,
    pub(super) store: Arc<dyn Store>,
}

/// By each driver; none where no transactions are.
pub(super) async fn inserts(name: &str, url: &str) -> Result<Vec<Inserts>, Failure> {
    Ok(match name {
        "postgres" => vec![
            postgres::inserts(url, CONNECTIONS).await?,
            insert_by_tokio_postgres::inserts(url, CONNECTIONS).await?,
        ],
        "mysql" => vec![mysql::inserts(url, CONNECTIONS).await?],
        // It has one writer. Those of a larger pool would wait for each other asleep.
        "sqlite" => vec![sqlite::inserts(url, 1).await?],
        _ => Vec::new(),
    })
}

/// What takes payments, with the pool or the transactions as its state.
pub(super) fn application<S>(pay: MethodRouter<S>, state: S) -> Router
where
    S: Clone + Send + Sync + 'static,
{
    Router::new()
        .route("/payments", pay)
        .layer(Extension(Till::default()))
        .with_state(state)
}

/// Takes a payment; `number` is its key, if it is asked for one.
pub(super) async fn pay(app: Router, number: u64) -> Result<(), Failure> {
    let request = Request::post("/payments")
        .header(header::CONTENT_TYPE, "application/json")
        .header("idempotency-key", format!("payment-{number}"))
        .body(Body::from(BODY))?;
    let response = app.oneshot(request).await?;
    if response.status() == StatusCode::CREATED {
        return Ok(());
    }
    let (status, problem) = (
        response.status(),
        to_bytes(response.into_body(), 1000).await?,
    );
    let problem = String::from_utf8_lossy(&problem);
    Err(format!("a payment was answered {status}: {problem}").into())
}

pub(super) fn failed(error: impl std::error::Error) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

pub(super) type Answer = Result<(StatusCode, Json<Payment>), (StatusCode, String)>;

/// The same for each database, in its words.
macro_rules! database {
    (
        $name:ident, $database:ty, $connection:ty, $store:ty, $begin:literal, $id:literal, $values:literal,
        $lock:expr, $look:literal, $record:literal, $bytes:literal
    ) => {
        mod $name {
            use super::*;

            async fn insert(tx: &mut $connection, request: &PaymentRequest) -> sqlx::Result<()> {
                sqlx::query(concat!(
                    "INSERT INTO payments (amount, order_id) VALUES ",
                    $values
                ))
                .bind(request.amount as i64)
                .bind(&request.order_id)
                .execute(tx)
                .await?;
                Ok(())
            }

            async fn alone(
                State(pool): State<sqlx::Pool<$database>>,
                Extension(till): Extension<Till>,
                Json(request): Json<PaymentRequest>,
            ) -> Answer {
                let mut tx = pool.begin_with($begin).await.map_err(failed)?;
                insert(&mut tx, &request).await.map_err(failed)?;
                tx.commit().await.map_err(failed)?;
                Ok(till.pay(request))
            }

            async fn by_hand(
                State(pool): State<sqlx::Pool<$database>>,
                Extension(till): Extension<Till>,
                headers: HeaderMap,
                body: Bytes,
            ) -> Result<(StatusCode, Vec<u8>), (StatusCode, String)> {
                let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
                let key = key.ok_or((StatusCode::BAD_REQUEST, String::new()))?;
                let hash = Sha256::digest(&body).to_vec();
                let request: PaymentRequest = serde_json::from_slice(&body).map_err(failed)?;
                let mut tx = pool.begin_with($begin).await.map_err(failed)?;
                if let Some(lock) = $lock {
                    let locked = sqlx::query(lock).bind(key).fetch_all(&mut *tx).await;
                    locked.map_err(failed)?;
                }
                let found = sqlx::query($look).bind(key).fetch_optional(&mut *tx).await;
                if let Some(found) = found.map_err(failed)? {
                    let (before, response): (Vec<u8>, Vec<u8>) = (found.get(0), found.get(1));
                    return if before == hash {
                        Ok((StatusCode::CREATED, response))
                    } else {
                        Err((StatusCode::UNPROCESSABLE_ENTITY, String::new()))
                    };
                }
                insert(&mut tx, &request).await.map_err(failed)?;
                let (status, Json(payment)) = till.pay(request);
                let response = serde_json::to_vec(&payment).map_err(failed)?;
                let record = sqlx::query($record).bind(key).bind(hash).bind(&response);
                record.execute(&mut *tx).await.map_err(failed)?;
                tx.commit().await.map_err(failed)?;
                Ok((status, response))
            }

            #[idempotent(ttl_hours = 24)]
            async fn with_record(
                #[tx] tx: &mut $connection,
                Extension(till): Extension<Till>,
                Json(request): Json<PaymentRequest>,
            ) -> Answer {
                insert(tx, &request).await.map_err(failed)?;
                Ok(till.pay(request))
            }

            pub(super) async fn inserts(url: &str, connections: u32) -> Result<Inserts, Failure> {
                let pool = PoolOptions::<$database>::new()
                    .max_connections(connections)
                    .test_before_acquire(false)
                    .connect(url)
                    .await?;
                let table = concat!(
                    "CREATE TABLE IF NOT EXISTS payments (id ",
                    $id,
                    " PRIMARY KEY, ",
                    "amount bigint NOT NULL, order_id varchar(64) NOT NULL)"
                );
                sqlx::query(table).execute(&pool).await?;
                let records = concat!(
                    "CREATE TABLE IF NOT EXISTS payment_records (id varchar(64) PRIMARY KEY, request_hash ",
                    $bytes, " NOT NULL, response ", $bytes, " NOT NULL, expires_at timestamp NOT NULL)"
                );
                sqlx::query(records).execute(&pool).await?;
                let store: Arc<dyn Store> = Arc::new(<$store>::new(pool.clone()));
                let idempotency = Idempotency::new(Arc::clone(&store));
                let transactions: Transactions<$connection> = idempotency.transactions().await?;
                Ok(Inserts {
                    driver: Driver::Sqlx,
                    alone: application(post(alone), pool.clone()),
                    by_hand: Some(application(post(by_hand), pool)),
                    with_record: application(post(with_record), transactions),
                    store,
                })
            }
        }
    };
}

database!(
    postgres,
    sqlx::Postgres,
    PgConnection,
    PostgresStore,
    "BEGIN",
    "bigserial",
    "($1, $2)",
    Some("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"),
    "SELECT request_hash, response FROM payment_records WHERE id = $1 AND expires_at > now()",
    "INSERT INTO payment_records (id, request_hash, response, expires_at) VALUES ($1, $2, $3, now() + interval '1 day')",
    "bytea"
);
database!(
    mysql,
    sqlx::MySql,
    MySqlConnection,
    MySqlStore,
    "BEGIN",
    "bigint AUTO_INCREMENT",
    "(?, ?)",
    None::<&'static str>,
    "SELECT request_hash, response FROM payment_records WHERE id = ? AND expires_at > UTC_TIMESTAMP()",
    "INSERT INTO payment_records (id, request_hash, response, expires_at) VALUES (?, ?, ?, UTC_TIMESTAMP() + INTERVAL 1 DAY)",
    "blob"
);
database!(
    sqlite,
    sqlx::Sqlite,
    SqliteConnection,
    SqliteStore,
    "BEGIN IMMEDIATE",
    "integer",
    "(?, ?)",
    None::<&'static str>,
    "SELECT request_hash, response FROM payment_records WHERE id = ? AND expires_at > datetime()",
    "INSERT INTO payment_records (id, request_hash, response, expires_at) VALUES (?, ?, ?, datetime('now', '+1 day'))",
    "blob"
);
