//! Exactly once: a payment and the record of its request are committed together, or not at all.
//!
//! ```text
//! cargo run --features sqlite --example exactly_once [-- --addr 127.0.0.1:3000] [--store sqlite:FILE]
//! cargo run --features sqlite,postgres --example exactly_once -- --store postgres://postgres@127.0.0.1/test
//! ```
//!
//! The first command needs no server: payments and records are in one SQLite file. It prints commands to paste:
//! a payment during which the process dies, and the retry that finds nothing half done.

use std::error::Error;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use idempotent_runtime::{Idempotency, Release, Transactions, idempotent};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{Connection, SqliteConnection};
use tokio::net::TcpListener;

#[derive(Deserialize)]
struct PaymentRequest {
    /// In the currency's smallest unit: money is never a float.
    amount: i64,
    order_id: String,
    /// Abort the process after the payment is written and before anything is committed.
    #[serde(default)]
    crash: bool,
}

#[derive(Serialize)]
struct Payment {
    id: i64,
    amount: i64,
    order_id: String,
}

const INSERT: &str = "INSERT INTO payments (amount, order_id) VALUES ($1, $2) RETURNING id";
const LIST: &str = "SELECT id, amount, order_id FROM payments ORDER BY id";

/// `tx` is borrowed for this request. After the handler has returned, the runtime commits what was written through
/// it together with the response; an error response rolls it back.
#[idempotent(ttl_hours = 24, key_age = "ttl")]
async fn create_payment(
    #[tx] tx: &mut SqliteConnection,
    Json(request): Json<PaymentRequest>,
) -> Result<(StatusCode, Json<Payment>), PaymentError> {
    let id = sqlx::query_scalar(INSERT)
        .bind(request.amount)
        .bind(&request.order_id)
        .fetch_one(&mut *tx)
        .await?;
    request.written(id)
}

async fn list_payments(State(app): State<Sqlite>) -> Result<Json<Vec<Payment>>, PaymentError> {
    let rows: Vec<Row> = sqlx::query_as(LIST).fetch_all(&app.pool).await?;
    Ok(Json(rows.into_iter().map(Payment::from).collect()))
}

impl PaymentRequest {
    fn written(self, id: i64) -> Result<(StatusCode, Json<Payment>), PaymentError> {
        if self.crash {
            tracing::warn!(id, "written and not committed: dying now");
            std::process::abort();
        }
        // After the write, to show that it is rolled back.
        if self.amount <= 0 {
            return Err(PaymentError::NotAnAmount);
        }
        let payment = Payment::from((id, self.amount, self.order_id));
        Ok((StatusCode::CREATED, Json(payment)))
    }
}

type Row = (i64, i64, String);

impl From<Row> for Payment {
    fn from((id, amount, order_id): Row) -> Self {
        Self {
            id,
            amount,
            order_id,
        }
    }
}

enum PaymentError {
    /// Stored and replayed; what was written is rolled back.
    NotAnAmount,
    /// The database has rejected a statement. Nothing is stored, and a retry runs again.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for PaymentError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl IntoResponse for PaymentError {
    fn into_response(self) -> Response {
        match self {
            Self::NotAnAmount => {
                (StatusCode::UNPROCESSABLE_ENTITY, "not an amount").into_response()
            }
            Self::Database(error) => {
                tracing::error!(%error, "the database has refused a statement");
                Release(StatusCode::SERVICE_UNAVAILABLE).into_response()
            }
        }
    }
}

/// The state: the [`Transactions`] that idempotent handlers take from it.
#[derive(Clone)]
struct Sqlite {
    pool: SqlitePool,
    transactions: Transactions<SqliteConnection>,
}

impl axum::extract::FromRef<Sqlite> for Transactions<SqliteConnection> {
    fn from_ref(app: &Sqlite) -> Self {
        app.transactions.clone()
    }
}

async fn sqlite(url: &str) -> Result<(Router, Idempotency), Box<dyn Error>> {
    let options: SqliteConnectOptions = url.parse()?;
    let mut setup =
        SqliteConnection::connect_with(&options.clone().create_if_missing(true)).await?;
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS payments (
            id INTEGER PRIMARY KEY, amount INTEGER NOT NULL, order_id TEXT NOT NULL
        ) STRICT",
    )
    .execute(&mut setup)
    .await?;
    setup.close().await?;

    // The store uses the database that the handlers write to.
    let idempotency = Idempotency::connect(url).await?;
    let state = Sqlite {
        pool: SqlitePool::connect_lazy_with(options),
        transactions: idempotency.transactions().await?,
    };
    let payments = post(create_payment).get(list_payments);
    let app = Router::new()
        .route("/api/payments", payments)
        .with_state(state);
    Ok((app, idempotency))
}

/// The same for PostgreSQL; only the type of the connection differs.
#[cfg(feature = "postgres")]
mod postgres {
    use sqlx::postgres::{PgConnection, PgPool};

    use super::*;

    #[idempotent(ttl_hours = 24, key_age = "ttl")]
    async fn create_payment(
        #[tx] tx: &mut PgConnection,
        Json(request): Json<PaymentRequest>,
    ) -> Result<(StatusCode, Json<Payment>), PaymentError> {
        let id = sqlx::query_scalar(INSERT)
            .bind(request.amount)
            .bind(&request.order_id)
            .fetch_one(&mut *tx)
            .await?;
        request.written(id)
    }

    async fn list_payments(pool: PgPool) -> Result<Json<Vec<Payment>>, PaymentError> {
        let rows: Vec<Row> = sqlx::query_as(LIST).fetch_all(&pool).await?;
        Ok(Json(rows.into_iter().map(Payment::from).collect()))
    }

    pub async fn app(url: &str) -> Result<(Router, Idempotency), Box<dyn Error>> {
        let pool = PgPool::connect(url).await?;
        sqlx::raw_sql(
            "CREATE TABLE IF NOT EXISTS payments (
                id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                amount BIGINT NOT NULL, order_id TEXT NOT NULL
            )",
        )
        .execute(&pool)
        .await?;
        let idempotency = Idempotency::connect(url).await?;
        let transactions: Transactions<PgConnection> = idempotency.transactions().await?;
        let payments = post(create_payment).get(move || list_payments(pool.clone()));
        let app = Router::new()
            .route("/api/payments", payments)
            .with_state(transactions);
        Ok((app, idempotency))
    }
}

async fn connect(store: &str) -> Result<(Router, Idempotency), Box<dyn Error>> {
    match store.split_once(':') {
        Some(("sqlite", _)) => sqlite(store).await,
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", _)) => postgres::app(store).await,
        _ => Err(format!("{USAGE}; `postgres:` needs the cargo feature `postgres`").into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let Options { addr, store } = Options::parse()?;
    let (app, idempotency) = connect(&store).await?;
    let listener = TcpListener::bind(&addr)
        .await
        .map_err(|error| format!("{addr}: {error}"))?;
    print_guide(&format!("http://{}", listener.local_addr()?), &store);
    axum::serve(listener, app)
        .with_graceful_shutdown(stop())
        .await?;
    idempotency.shutdown(Duration::from_secs(30)).await;
    Ok(())
}

/// Ctrl-C, or the signal that a service manager sends.
async fn stop() {
    #[cfg(unix)]
    let terminate = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate => {}
    }
}

#[expect(clippy::print_stdout, reason = "this is what the example has to say")]
fn print_guide(url: &str, store: &str) {
    println!(
        r#"Listening on {url}
Payments and records are in {store}

Both last. To go through this again, take other keys, or delete the database.

1. Pay, and let the process die between the write and the commit:
   curl -i {url}/api/payments -H 'Idempotency-Key: order-1' -H 'content-type: application/json' -d '{{"amount":1000,"order_id":"1","crash":true}}'

2. Start this again. Nothing was paid, and the key is free:
   curl {url}/api/payments

3. Pay, as often as you like: one payment.
   curl -i {url}/api/payments -H 'Idempotency-Key: order-1' -H 'content-type: application/json' -d '{{"amount":1000,"order_id":"1"}}'

4. An error answer is stored too, and what was written before it is taken back:
   curl -i {url}/api/payments -H 'Idempotency-Key: order-2' -H 'content-type: application/json' -d '{{"amount":-5,"order_id":"2"}}'
"#
    );
}

const USAGE: &str =
    "usage: exactly_once [--addr 127.0.0.1:3000] [--store sqlite:FILE | postgres://...]";

struct Options {
    addr: String,
    store: String,
}

impl Options {
    fn parse() -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;
        let file = std::env::temp_dir().join("idempotent-exactly-once.db");
        let mut options = Self {
            addr: "127.0.0.1:3000".to_owned(),
            store: std::env::var("IDEMPOTENCY_URL")
                .unwrap_or_else(|_| format!("sqlite:{}", file.display())),
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("addr") => options.addr = arguments.value()?.string()?,
                Long("store") => options.store = arguments.value()?.string()?,
                Long("help") => return Err(USAGE.into()),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(options)
    }
}
