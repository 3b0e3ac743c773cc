//! What is particular about handlers that write by tokio-postgres.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::FromRef;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use deadpool_postgres::{Client, Pool};
use futures_util::StreamExt as _;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Request, StatusCode};
use idempotent_runtime::store::postgres::{DeadpoolTransaction, PostgresStore};
use idempotent_runtime::store::transaction::TransactionRequest;
use idempotent_runtime::store::transaction::sealed::Of as _;
use idempotent_runtime::{
    ErrorKind, Fingerprint, Idempotency, Owner, RecordKey, Token, Transactions, idempotent,
};
use sqlx::PgConnection;
use tokio_postgres::Error;
use tower::ServiceExt as _;

use crate::support::{Database, Scene, Server, on_databases};

type Deadpool = Scene<DeadpoolTransaction>;

async fn by_client(client: &tokio_postgres::Client) -> Result<u64, Error> {
    client.execute("SELECT 1", &[]).await
}

async fn by_pooled_client(client: &Client) -> Result<u64, Error> {
    let select = client.prepare_cached("SELECT 1").await?;
    client.execute(&select, &[]).await
}

async fn by_either(client: &impl tokio_postgres::GenericClient) -> Result<u64, Error> {
    client.execute("SELECT 1", &[]).await
}

async fn by_either_pooled(client: &impl deadpool_postgres::GenericClient) -> Result<u64, Error> {
    let select = client.prepare_cached("SELECT 1").await?;
    client.execute(&select, &[]).await
}

async fn all_of_them(tx: &mut DeadpoolTransaction) -> Result<u64, Error> {
    let mut selected = by_client(tx).await? + by_pooled_client(tx).await?;
    selected += by_either(tx.client()).await?;
    selected += by_either_pooled(&**tx).await?;
    Ok(selected)
}

#[derive(Clone, FromRef)]
struct App {
    transactions: Transactions<DeadpoolTransaction>,
}

#[idempotent]
async fn selected(#[tx] tx: &mut DeadpoolTransaction) -> Result<String, StatusCode> {
    let selected = all_of_them(tx).await;
    let selected = selected.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(selected.to_string())
}

#[tokio::test]
async fn functions_of_a_client_and_of_either_crates_generic_one_take_it() {
    let Some(scene) = Deadpool::new().await else {
        return;
    };
    let transactions = scene.builder(1).build().transactions().await.unwrap();
    let app: Router = Router::new()
        .route("/", post(selected))
        .with_state(App { transactions });
    let request = Request::post("/").header("idempotency-key", "key");
    let request = request.body(Body::empty()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    let body = axum::body::to_bytes(response.into_body(), 100).await;
    assert_eq!(body.unwrap(), "4");
    scene.clean_up().await;
}

async fn the_other_drivers_connection_is_told_of_the_pool<C: Database>(scene: &Scene<C>) {
    let idempotency = Idempotency::new(scene.store(1));
    let wrong = match C::RECORD_GOES_WITH_COMMIT {
        true => idempotency.transactions::<PgConnection>().await.err(),
        false => idempotency
            .transactions::<DeadpoolTransaction>()
            .await
            .err(),
    };
    let error = wrong.expect("an error");
    assert_eq!(error.kind(), ErrorKind::NoTransactions);
    let message = error.to_string();
    assert!(
        message.contains("`PostgresStore::with_deadpool`"),
        "{message}"
    );
}
on_databases!(the_other_drivers_connection_is_told_of_the_pool: PgConnection DeadpoolTransaction);

/// It has a table of the same name.
#[tokio::test]
async fn a_pool_of_another_database_is_found() {
    let Some(scene) = Deadpool::new().await else {
        return;
    };
    let (server, _) = scene.url.rsplit_once('/').expect("a database");
    let (table, other) = (
        &scene.tables.records,
        scene.tables.records.replace("records", "other"),
    );
    scene.execute(&format!("CREATE DATABASE {other}")).await;
    let pools = DeadpoolTransaction::pool(&format!("{server}/{other}"), 1);
    DeadpoolTransaction::migrated(&pools, table).await;

    let store = PostgresStore::connect(&scene.url).await.unwrap();
    let store = store.with_table(table).unwrap();
    let store = store.with_deadpool(pools.deadpool.clone());
    let error = Idempotency::new(store)
        .transactions::<DeadpoolTransaction>()
        .await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(
        format!("{error:?}").contains("another database"),
        "{error:?}"
    );
    DeadpoolTransaction::close(&pools).await;
    scene
        .execute(&format!("DROP DATABASE {other} WITH (FORCE)"))
        .await;
    scene.clean_up().await;
}

/// In a runtime of one thread, so that what is sent together is written together.
#[tokio::test]
async fn a_transaction_with_a_record_has_the_round_trips_of_one_without() {
    let Some(scene) = Deadpool::new().await else {
        return;
    };
    let (url, wire) = scene.wired().await;
    let pools = DeadpoolTransaction::pool(&url, 1);
    // What the store does on connections of its own is not counted.
    let store = PostgresStore::connect(&scene.url).await.unwrap();
    let store = store.with_table(&scene.tables.records).unwrap();
    let store = store.with_deadpool(pools.deadpool.clone());
    let server = scene.serve(Idempotency::builder(store)).await;
    let row = scene
        .tables
        .put_into("INSERT INTO {payments} VALUES ('key', '')");
    // The first of each prepares statements.
    for key in ["first", "second"] {
        wire.take_exchanges();
        DeadpoolTransaction::transaction(&pools, &row).await;
        let without = wire.take_exchanges();
        server.post("/all", key, "pay").await.assert_own(201);
        let with = wire.take_exchanges();
        assert!(server.post("/all", key, "pay").await.is_replay());
        // One, besides its ROLLBACK, which is not waited for, and what waits here.
        idle(&pools.deadpool).await;
        let again = wire.take_exchanges();
        if key == "second" {
            assert_eq!((without, with), (3, 3));
            assert!(again <= 3, "{again}");
        }
    }
    scene.clean_up().await;
}

/// Each reply to what was sent before is here.
async fn idle(pool: &Pool) {
    pool.get().await.unwrap().batch_execute("").await.unwrap();
}

/// With one connection, which process of the server it leads to says whether it was reused.
struct Session {
    scene: Deadpool,
    server: Server<DeadpoolTransaction>,
    pool: Pool,
    /// It may do nothing.
    role: String,
}

impl Session {
    async fn new() -> Option<Self> {
        let scene = Deadpool::new().await?;
        let role = scene.tables.records.replace("records", "role");
        scene.execute(&format!("CREATE ROLE {role}")).await;
        let grant = format!("GRANT INSERT ON {{payments}} TO {role}");
        scene.execute(&grant).await;
        let pools = DeadpoolTransaction::pool(&scene.url, 1);
        let store = DeadpoolTransaction::store(&pools, &scene.tables.records);
        Some(Self {
            server: scene.serve(Idempotency::builder(store)).await,
            pool: pools.deadpool,
            scene,
            role,
        })
    }

    async fn pays_once(&self, key: &str, session: &str) {
        let runs = self.server.stage.runs();
        let steps = format!("sql {}; pay", session.replace("{role}", &self.role));
        let first = self.server.post("/all", key, &steps).await;
        assert_eq!(first.status, 201, "{session}: {first:?}");
        let again = self.server.post("/all", key, &steps).await;
        again.assert_replay_of(&first);
        assert_eq!(self.server.stage.runs(), runs + 1, "{session}");
        assert_eq!(self.scene.payments(key).await, 1, "{session}");
    }

    async fn backend(&self) -> i32 {
        let client = self.pool.get().await.unwrap();
        client
            .query_one("SELECT pg_backend_pid()", &[])
            .await
            .unwrap()
            .get(0)
    }

    async fn clean_up(self) {
        let role = self.role;
        self.scene
            .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
            .await;
        self.scene.clean_up().await;
    }
}

#[tokio::test]
async fn a_handler_may_change_its_transaction_and_the_connection_is_reused() {
    let Some(session) = Session::new().await else {
        return;
    };
    session.pays_once("plain", "SELECT 1").await;
    let backend = session.backend().await;
    let changes = [
        "SET LOCAL ROLE {role}",
        "SET LOCAL search_path TO '', public",
        "SET LOCAL SESSION AUTHORIZATION {role}",
        "SET LOCAL statement_timeout = '1h'",
        "SET LOCAL session_replication_role = replica",
    ];
    for (place, change) in changes.into_iter().enumerate() {
        session.pays_once(&format!("key-{place}"), change).await;
        assert_eq!(session.backend().await, backend, "{change}");
    }
    session.clean_up().await;
}

#[tokio::test]
async fn a_handler_that_leaves_its_session_changed_pays_once_and_its_connection_is_closed() {
    let Some(session) = Session::new().await else {
        return;
    };
    let changes = [
        "SET ROLE {role}",
        "SET SESSION AUTHORIZATION {role}",
        "SET lock_timeout = '1ms'",
        "SET default_transaction_read_only = on",
        "SET search_path TO '', public",
    ];
    for (place, change) in changes.into_iter().enumerate() {
        let backend = session.backend().await;
        session.pays_once(&format!("key-{place}"), change).await;
        assert_ne!(session.backend().await, backend, "{change}");
    }
    session.clean_up().await;
}

/// Others use the pool too, and leave its connections as they like.
#[tokio::test]
async fn a_connection_that_is_of_no_use_is_replaced_by_a_fresh_one() {
    let Some(session) = Session::new().await else {
        return;
    };
    let leaks = [
        "SET ROLE {role}",
        "SET default_transaction_read_only = on",
        "BEGIN; SELECT 1 / 0",
        "SELECT pg_terminate_backend(pg_backend_pid())",
    ];
    for (place, leak) in leaks.into_iter().enumerate() {
        let backend = session.backend().await;
        let leak = leak.replace("{role}", &session.role);
        drop(session.pool.get().await.unwrap().batch_execute(&leak).await);
        session.pays_once(&format!("key-{place}"), "SELECT 1").await;
        assert_ne!(session.backend().await, backend, "{leak}");
    }
    session.clean_up().await;
}

/// Given up in the middle: the pool must not lend a connection whose transaction is open.
#[tokio::test]
async fn a_beginning_that_is_dropped_leaves_no_open_transaction_in_the_pool() {
    let Some(session) = Session::new().await else {
        return;
    };
    let backend = session.backend().await;
    let mut other = PgConnection::connect(&session.scene.url).await.unwrap();
    let lock = "BEGIN; LOCK TABLE {records} IN ACCESS EXCLUSIVE MODE";
    session.scene.execute(lock).await;

    let transactor = session.server.idempotency.store().transactor();
    let begin = DeadpoolTransaction::of(transactor.unwrap()).unwrap();
    let request = TransactionRequest {
        owner: Owner {
            key: RecordKey::from_bytes([7; 32]),
            token: Token::random().unwrap(),
        },
        aliases: Arc::default(),
        operation: "POST /all".into(),
        label: None,
        fingerprint: Fingerprint::from_bytes([7; 32]),
        ttl: Duration::from_secs(60),
    };
    let beginning = tokio::spawn(async move {
        drop(begin.begin(Some(&request), Duration::from_secs(60)).await);
    });
    // It has its lock, and waits for the look.
    let waits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE pid = {backend} AND wait_event_type = 'Lock'"
    );
    let waiting = async {
        while other.number(&waits).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waiting = tokio::time::timeout(Duration::from_secs(60), waiting);
    waiting.await.expect("it waits for the look");
    beginning.abort();
    assert!(beginning.await.unwrap_err().is_cancelled());
    session.scene.execute("COMMIT").await;
    assert_ne!(session.backend().await, backend);
    session.clean_up().await;
}

static EXPORTS: AtomicUsize = AtomicUsize::new(0);

#[idempotent(max_response_bytes = 1000)]
async fn export(#[tx] tx: &mut DeadpoolTransaction, rows: String) -> Response {
    EXPORTS.fetch_add(1, Ordering::SeqCst);
    let none: [&str; 0] = [];
    let select = format!("SELECT repeat('x', 100) FROM generate_series(1, {rows})");
    let length = 100 * rows.parse::<u64>().expect("a number of rows");
    let rows = tx.query_raw(&select, none).await.expect("rows");
    let rows = rows.map(|row| row.map(|row| row.get::<_, String>(0)));
    let head = [(CONTENT_LENGTH, HeaderValue::from(length))];
    (StatusCode::CREATED, head, Body::from_stream(rows)).into_response()
}

/// `COMMIT` would wait for rows that are read when it is done. The problem in their place had their length, and did not arrive.
#[tokio::test]
async fn a_body_of_the_transactions_own_rows_is_answered_whatever_its_length() {
    let Some(scene) = Deadpool::new().await else {
        return;
    };
    let transactions = scene.builder(1).build().transactions().await.unwrap();
    let app: Router = Router::new()
        .route("/", post(export))
        .with_state(App { transactions });
    for (runs, rows, expected) in [(1, "10", None), (2, "50000", Some("response-not-retained"))] {
        for _ in 0..2 {
            let request = Request::post("/").header("idempotency-key", rows);
            let request = request.body(Body::from(rows)).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::CREATED);
            let length = response.headers().get(CONTENT_LENGTH).cloned();
            let body = axum::body::to_bytes(response.into_body(), 2000).await;
            let body = body.unwrap();
            assert_eq!(length, Some(HeaderValue::from(body.len())));
            let problem: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
            let code = problem.as_ref().and_then(|it| it["code"].as_str());
            assert_eq!(code, expected);
            assert_eq!(code.is_none(), *body == [b'x'; 1000]);
            assert_eq!(EXPORTS.load(Ordering::SeqCst), runs);
        }
    }
    scene.clean_up().await;
}
