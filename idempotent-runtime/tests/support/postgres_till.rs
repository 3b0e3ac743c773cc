//! An application on a socket: handlers with and without a transaction, and a client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use axum::routing::post;
use idempotent_runtime::store::postgres::PostgresStore;
use idempotent_runtime::{Idempotency, Transactions, idempotent};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::PATIENCE;

#[derive(Clone)]
struct App {
    transactions: Transactions<PgConnection>,
    pool: PgPool,
    runs: Arc<AtomicUsize>,
}

impl FromRef<App> for Transactions<PgConnection> {
    fn from_ref(app: &App) -> Self {
        app.transactions.clone()
    }
}

impl FromRef<App> for Idempotency {
    fn from_ref(app: &App) -> Self {
        app.transactions.idempotency().clone()
    }
}

/// The body's statements, one after the other.
#[idempotent]
async fn pay(
    State(app): State<App>,
    #[tx] tx: &mut PgConnection,
    statements: String,
) -> (StatusCode, String) {
    let run = app.runs.fetch_add(1, Ordering::SeqCst) + 1;
    for statement in statements.split(';') {
        let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *tx);
        if let Err(error) = done.await {
            return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        }
    }
    (StatusCode::CREATED, format!("run {run}"))
}

/// Holds one of the application's connections for the body's milliseconds.
#[idempotent(lease = "2s", on_abandoned = "retry")]
async fn hold(State(app): State<App>, milliseconds: String) -> String {
    let run = app.runs.fetch_add(1, Ordering::SeqCst) + 1;
    let connection = app.pool.acquire().await.unwrap();
    let milliseconds = milliseconds.parse().unwrap();
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    drop(connection);
    format!("run {run}")
}

pub(crate) struct Till {
    address: SocketAddr,
    runs: Arc<AtomicUsize>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn is_replay(&self) -> bool {
        let text = self.text.to_lowercase();
        text.contains("idempotent-replayed: true")
    }
}

impl Till {
    /// With a timeout of a store call that a test can wait for.
    pub(crate) async fn open(store: PostgresStore, pool: PgPool, time_out: Duration) -> Self {
        Self::open_within(store, pool, time_out, Duration::from_secs(30)).await
    }

    /// With a bound of a transaction, too.
    pub(crate) async fn open_within(
        store: PostgresStore,
        pool: PgPool,
        time_out: Duration,
        of_transactions: Duration,
    ) -> Self {
        let builder = Idempotency::builder(store).store_timeout(time_out);
        let idempotency = builder.transaction_timeout(of_transactions).build();
        let transactions = idempotency.transactions::<PgConnection>().await;
        let runs = Arc::new(AtomicUsize::new(0));
        let app = App {
            transactions: transactions.unwrap(),
            pool,
            runs: Arc::clone(&runs),
        };
        let router = Router::new()
            .route("/pay", post(pay))
            .route("/hold", post(hold))
            .with_state(app);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, runs }
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: &str) -> Answer {
        let answer = send(self.address, path, key, body);
        tokio::time::timeout(PATIENCE, answer).await.unwrap()
    }

    /// As a client does that has patience.
    pub(crate) async fn post_until_served(&self, path: &str, key: &str, body: &str) -> Answer {
        loop {
            let answer = self.post(path, key, body).await;
            if answer.status != 503 && answer.status != 409 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn send(address: SocketAddr, path: &str, key: &str, body: &str) -> Answer {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: till\r\nIdempotency-Key: {key}\r\n\
         Content-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).await.unwrap();
    let status = text.get(9..12).unwrap().parse().unwrap();
    Answer { status, text }
}
