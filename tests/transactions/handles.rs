//! `#[tx]` with its handle from the arguments: the state cannot be `FromRef`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::routing::post;
use http::{Request, StatusCode};
use idempotent_runtime::{Transactions, idempotent};
use sqlx::SqliteConnection;
use tower::ServiceExt as _;

use crate::support::Scene;

struct App {
    transactions: Transactions<SqliteConnection>,
    runs: AtomicUsize,
}

impl App {
    fn run(&self) -> String {
        format!("run {}", self.runs.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

#[idempotent(with = app.transactions)]
async fn pay(
    State(app): State<Arc<App>>,
    #[tx] tx: &mut SqliteConnection,
    body: String,
) -> Result<String, StatusCode> {
    let written = sqlx::query("SELECT 1").execute(&mut *tx).await;
    written.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(format!("{body} in {}", app.run()))
}

#[idempotent(with = app.transactions)]
async fn state_only(#[tx] _tx: &mut SqliteConnection, State(app): State<Arc<App>>) -> String {
    app.run()
}

async fn post_to(app: &Router, path: &str, body: &'static str) -> (StatusCode, String) {
    let request = Request::post(path).header("idempotency-key", "key");
    let request = request.body(Body::from(body)).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn transactions_in_the_arguments_are_those_that_a_handler_gets() {
    let scene = Scene::<SqliteConnection>::new().await.unwrap();
    let idempotency = scene.builder(1).build();
    let app = Arc::new(App {
        transactions: idempotency.transactions().await.unwrap(),
        runs: AtomicUsize::new(0),
    });
    let routes = Router::new()
        .route("/pay", post(pay))
        .route("/state", post(state_only))
        .with_state(app);
    for (path, answer) in [("/pay", "10 in run 1"), ("/state", "run 2")] {
        let first = post_to(&routes, path, "10").await;
        assert_eq!(first, (StatusCode::OK, answer.to_owned()));
        assert_eq!(post_to(&routes, path, "10").await, first);
        let other = post_to(&routes, path, "20").await;
        assert_eq!(other.0, StatusCode::UNPROCESSABLE_ENTITY);
    }
    drop((routes, idempotency));
    scene.clean_up().await;
}
