//! `COMMIT` that takes longer than the engine waits for, as an application's clients see it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{FromRef, State};
use axum::routing::post;
use idempotent_runtime::store::mysql::MySqlStore;
use idempotent_runtime::{Idempotency, Transactions, idempotent};
use sqlx::MySqlConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::proxy::{COMMIT, Proxy};
use crate::support::{PATIENCE, Scratch, pool};

#[derive(Clone)]
struct App {
    transactions: Transactions<MySqlConnection>,
    runs: Arc<AtomicUsize>,
}

impl FromRef<App> for Transactions<MySqlConnection> {
    fn from_ref(app: &App) -> Self {
        app.transactions.clone()
    }
}

impl FromRef<App> for Idempotency {
    fn from_ref(app: &App) -> Self {
        app.transactions.idempotency().clone()
    }
}

#[idempotent]
async fn pay(State(app): State<App>, #[tx] tx: &mut MySqlConnection, _: String) -> String {
    let payment = sqlx::raw_sql("INSERT INTO payments VALUES (1)");
    payment.execute(&mut *tx).await.unwrap();
    format!("run {}", app.runs.fetch_add(1, Ordering::SeqCst) + 1)
}

/// What a client reads, head and body.
async fn send(address: SocketAddr, key: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /pay HTTP/1.1\r\nHost: till\r\nIdempotency-Key: {key}\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

/// It was answered "Nothing was done this time", and the payment was there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_slower_than_the_time_out_is_in_flight_and_then_a_replay() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    scratch
        .execute("CREATE TABLE {database}.payments (id INT)")
        .await;
    let proxy = Proxy::to(&scratch.options).await;
    let store = MySqlStore::new(pool(&proxy.options(&scratch.options), 2));
    let store = store.with_table(&scratch.table).unwrap();
    let idempotency = Idempotency::builder(store).store_timeout(Duration::from_secs(2));
    let runs = Arc::new(AtomicUsize::new(0));
    let app = App {
        transactions: idempotency.build().transactions().await.unwrap(),
        runs: Arc::clone(&runs),
    };
    let router = Router::new().route("/pay", post(pay)).with_state(app);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });

    // It arrives when no caller waits for it any more.
    proxy.delay(COMMIT, Duration::from_secs(5));
    let first = send(address, "key").await;
    assert!(first.starts_with("HTTP/1.1 409"), "{first}");
    assert!(first.contains("in-flight"), "{first}");
    let started = Instant::now();
    let last = loop {
        let retry = send(address, "key").await;
        if !retry.starts_with("HTTP/1.1 409") {
            break retry;
        }
        assert!(started.elapsed() < PATIENCE, "{retry}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(last.starts_with("HTTP/1.1 200"), "{last}");
    assert!(last.contains("idempotent-replayed: true"), "{last}");
    assert!(last.ends_with("run 1"), "{last}");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    let payments = scratch.rows("SELECT 1 FROM {database}.payments").await;
    assert_eq!(payments.len(), 1);
    scratch.clean_up().await;
}
