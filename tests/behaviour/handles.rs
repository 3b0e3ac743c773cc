//! Where a handler finds its handle.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, State};
use axum::routing::post;
use http::{Request, StatusCode};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Idempotency, idempotent};
use tower::ServiceExt as _;

use crate::support::Probe;

struct Shared {
    idempotency: Idempotency,
    probe: Probe,
}

#[idempotent(with = app.idempotency)]
async fn pay(State(app): State<Arc<Shared>>, body: String) -> String {
    format!("{} in run {}", body, app.probe.run())
}

#[idempotent(with = app.idempotency)]
async fn state_only(State(app): State<Arc<Shared>>) -> String {
    format!("run {}", app.probe.run())
}

#[idempotent(with = tenant)]
async fn of_a_tenant(
    Extension(tenant): Extension<Idempotency>,
    State(app): State<Arc<Shared>>,
    body: String,
) -> String {
    format!("{body} in run {}", app.probe.run())
}

fn app() -> (Router, Arc<Shared>) {
    let shared = Arc::new(Shared {
        idempotency: Idempotency::new(MemoryStore::new()),
        probe: Probe::default(),
    });
    let routes = Router::new()
        .route("/pay", post(pay))
        .route("/state", post(state_only))
        .route("/tenant", post(of_a_tenant))
        .layer(Extension(Idempotency::new(MemoryStore::new())))
        .with_state(Arc::clone(&shared));
    (routes, shared)
}

async fn post_to(app: &Router, path: &str, key: &str, body: &str) -> (StatusCode, String) {
    let request = Request::post(path).header("idempotency-key", key);
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn a_handle_in_the_arguments_protects_as_one_in_the_state() {
    let (app, shared) = app();
    for path in ["/pay", "/state", "/tenant"] {
        let first = post_to(&app, path, "key", "10").await;
        assert_eq!(first.0, StatusCode::OK, "{path}: {first:?}");
        assert_eq!(post_to(&app, path, "key", "10").await, first, "{path}");
        let other = post_to(&app, path, "key", "20").await;
        assert_eq!(other.0, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        let keyless = Request::post(path).body(Body::empty()).unwrap();
        let keyless = app.clone().oneshot(keyless).await.unwrap();
        assert_eq!(keyless.status(), StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(shared.probe.runs(), 3);
}
