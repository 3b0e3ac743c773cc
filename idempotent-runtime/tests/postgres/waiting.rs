//! Requests that wait for another process's answer, through HTTP.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{FromRef, State};
use axum::routing::post;
use idempotent_runtime::store::Store;
use idempotent_runtime::store::postgres::PostgresStore;
use idempotent_runtime::{Idempotency, idempotent};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::{PATIENCE, Scratch, pool, request};
use crate::watched::Looks;

#[derive(Clone)]
struct Service {
    idempotency: Idempotency,
    till: Arc<Till>,
}

impl FromRef<Service> for Idempotency {
    fn from_ref(service: &Service) -> Self {
        service.idempotency.clone()
    }
}

impl FromRef<Service> for Arc<Till> {
    fn from_ref(service: &Service) -> Self {
        Arc::clone(&service.till)
    }
}

/// A handler that stands before a gate.
struct Till {
    reached: Semaphore,
    open: Semaphore,
}

#[idempotent(lease = "5m", in_flight = "wait", wait = "5m")]
async fn pay(State(till): State<Arc<Till>>) -> &'static str {
    till.reached.add_permits(1);
    drop(till.open.acquire().await);
    "paid"
}

/// A process, but for the process.
struct Process {
    address: std::net::SocketAddr,
    till: Arc<Till>,
}

impl Process {
    async fn start(store: impl Store) -> Self {
        let till = Arc::new(Till {
            reached: Semaphore::new(0),
            open: Semaphore::new(0),
        });
        let service = Service {
            idempotency: Idempotency::new(store),
            till: Arc::clone(&till),
        };
        let app = Router::new().route("/pay", post(pay)).with_state(service);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, till }
    }

    /// Always the same request.
    fn pay(&self) -> JoinHandle<String> {
        let address = self.address;
        tokio::spawn(async move {
            let mut connection = TcpStream::connect(address).await.unwrap();
            let request = "POST /pay HTTP/1.1\r\nHost: till\r\nIdempotency-Key: abc\r\n\
                           Content-Length: 0\r\nConnection: close\r\n\r\n";
            connection.write_all(request.as_bytes()).await.unwrap();
            let mut response = String::new();
            connection.read_to_string(&mut response).await.unwrap();
            response
        })
    }

    async fn reached(&self) {
        let reached = timeout(PATIENCE, self.till.reached.acquire()).await;
        reached.unwrap().unwrap().forget();
    }

    fn open(&self) {
        self.till.open.add_permits(1);
    }
}

async fn answered(request: JoinHandle<String>) -> String {
    timeout(PATIENCE, request).await.unwrap().unwrap()
}

fn assert_replay(response: &str) {
    let is_replay = response
        .to_lowercase()
        .contains("idempotent-replayed: true");
    assert!(is_replay && response.ends_with("paid"), "{response}");
}

async fn until(what: &str, happened: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !happened().await {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn is_marked(scratch: &Scratch) -> bool {
    let is_marked = format!(r#"SELECT bool_or(waited) FROM "{}""#, scratch.table);
    sqlx::query_scalar(AssertSqlSafe(is_marked))
        .fetch_one(&scratch.admin)
        .await
        .unwrap()
}

async fn until_marked(scratch: &Scratch) {
    until("it is marked", async || is_marked(scratch).await).await;
}

/// By looking, the second one would not find out.
#[tokio::test]
async fn request_that_waits_in_another_process_is_woken_by_the_notification() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let runs = Process::start(scratch.store(2)).await;
    let first = runs.pay();
    runs.reached().await;
    let looks = Arc::new(Looks::default());
    let waits = Process::start(looks.through(scratch.store(2))).await;
    let second = waits.pay();
    until_marked(&scratch).await;
    looks.are_blind.store(true, Ordering::SeqCst);
    runs.open();
    assert!(answered(first).await.ends_with("paid"));
    assert_replay(&answered(second).await);
    scratch.clean_up().await;
}

#[tokio::test]
async fn request_that_waits_is_answered_though_its_listener_was_ended() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let runs = Process::start(scratch.store(2)).await;
    let first = runs.pay();
    runs.reached().await;
    let waits = Process::start(scratch.store(2)).await;
    let second = waits.pay();
    until_marked(&scratch).await;
    for listener in scratch.listeners().await {
        scratch.kill(listener).await;
    }
    runs.open();
    assert!(answered(first).await.ends_with("paid"));
    assert_replay(&answered(second).await);
    scratch.clean_up().await;
}

/// A store that has its connections, and for any further one would go elsewhere.
async fn connected_once(scratch: &Scratch, elsewhere: PgConnectOptions) -> PostgresStore {
    let store_name = format!("{}_w", scratch.table);
    let pool = pool(&scratch.options.clone().application_name(&store_name), 1);
    let store = scratch.store_on(pool.clone());
    let key = request().owner.key;
    let all_are_there = async || {
        let both = tokio::join!(store.get(&key), store.get(&key));
        assert!(both.0.is_ok() && both.1.is_ok());
        scratch.backends_of(&store_name).await == 2
    };
    until("both connections are there", all_are_there).await;
    pool.set_connect_options(elsewhere);
    store
}

async fn found_out_by_looking(scratch: &Scratch, elsewhere: PgConnectOptions) -> Arc<Looks> {
    let runs = Process::start(scratch.store(2)).await;
    let first = runs.pay();
    runs.reached().await;
    let looks = Arc::new(Looks::default());
    let store = connected_once(scratch, elsewhere).await;
    let waits = Process::start(looks.through(store)).await;
    let second = waits.pay();
    let have_looked = async || looks.count.load(Ordering::SeqCst) >= 3;
    until("it has looked", have_looked).await;
    runs.open();
    assert!(answered(first).await.ends_with("paid"));
    assert_replay(&answered(second).await);
    looks
}

#[tokio::test]
async fn request_that_waits_is_answered_where_nobody_can_listen() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    let nowhere = PgConnectOptions::clone(&scratch.options).port(1);
    let looks = found_out_by_looking(&scratch, nowhere).await;
    // Whether there are notifications that can be relied on, and then for one: not with each look again.
    assert_eq!(looks.asked_for_notifications.load(Ordering::SeqCst), 2);
    assert_eq!(scratch.listeners().await.len(), 0);
    assert!(!is_marked(&scratch).await, "no process would hear of it");
    scratch.clean_up().await;
}

/// Notifications stay in their database: who listens in another one hears nothing, as behind a
/// `PgBouncer` in transaction mode.
#[tokio::test]
async fn request_that_waits_is_answered_where_nothing_is_heard() {
    let Some(scratch) = Scratch::migrated().await else {
        return;
    };
    scratch.execute(r#"CREATE DATABASE "{table}""#).await;
    let another = PgConnectOptions::clone(&scratch.options).database(&scratch.table);
    found_out_by_looking(&scratch, another).await;
    scratch
        .execute(r#"DROP DATABASE "{table}" WITH (FORCE)"#)
        .await;
    scratch.clean_up().await;
}
