//! A key that became too old to run while its request waited.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::post;
use http::{Request, StatusCode};
use idempotent_runtime::{Release, Transactions, idempotent};
use sqlx::SqliteConnection;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use crate::support::Scene;

struct App {
    transactions: Transactions<SqliteConnection>,
    runs: AtomicUsize,
    begun: Semaphore,
    may_end: Semaphore,
}

/// Nothing happens.
#[idempotent(with = app.transactions, ttl = "2s", key_age = "ttl", in_flight = "wait", wait = "1h")]
async fn released(
    State(app): State<Arc<App>>,
    #[tx] _tx: &mut SqliteConnection,
) -> Result<String, Release<StatusCode>> {
    app.runs.fetch_add(1, Ordering::SeqCst);
    app.begun.add_permits(1);
    app.may_end.acquire().await.unwrap().forget();
    Err(Release(StatusCode::CONFLICT))
}

/// A UUIDv7 of now.
fn new_key() -> String {
    let millis = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let time = format!("{:012x}", millis.unwrap().as_millis());
    format!("{}-{}-7cc3-98c4-dc0c0c07398f", &time[..8], &time[8..])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_that_became_too_old_while_it_waited_does_not_run() {
    let scene = Scene::<SqliteConnection>::new().await.unwrap();
    let idempotency = scene.builder(2).build();
    let app = Arc::new(App {
        transactions: idempotency.transactions().await.unwrap(),
        runs: AtomicUsize::new(0),
        begun: Semaphore::new(0),
        may_end: Semaphore::new(0),
    });
    let routes = Router::new().route("/", post(released));
    let routes = routes.with_state(Arc::clone(&app));
    let key = new_key();
    let ask = || {
        let request = Request::post("/").header("idempotency-key", &key);
        let request = request.body(Body::empty()).unwrap();
        tokio::spawn(routes.clone().oneshot(request))
    };
    let first = ask();
    app.begun.acquire().await.unwrap().forget();
    let waiter = ask();
    // By the system's clock, which a key of its own age is told by.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    app.may_end.add_permits(2);
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::CONFLICT);
    let waited = waiter.await.unwrap().unwrap();
    assert_eq!(waited.status(), StatusCode::BAD_REQUEST);
    assert_eq!(app.runs.load(Ordering::SeqCst), 1);
    drop((routes, app, idempotency));
    scene.clean_up().await;
}
