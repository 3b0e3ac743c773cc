//! Whose key it is.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::routing::post;
use axum::{Extension, Router};
use idempotent_runtime::store::Store;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Idempotency, idempotent};
use serde::Serialize;

use crate::support::{App, Probe, Server, reply, serve, serve_with};

#[derive(Clone, Serialize)]
struct User {
    id: u64,
}

#[idempotent(scope = user.id)]
async fn by_user(Extension(user): Extension<User>, State(probe): State<Probe>) -> String {
    format!("{} in run {}", user.id, probe.run())
}

#[idempotent(scope = (&tenant, region.get("region")))]
async fn by_tenant(
    Path(mut tenant): Path<String>,
    State(probe): State<Probe>,
    region: Query<std::collections::HashMap<String, String>>,
) -> String {
    tenant.push('!');
    format!("{tenant}{} in run {}", region.len(), probe.run())
}

#[idempotent]
async fn unscoped(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

async fn run(server: &Server, path: &str, tenant: &str) -> String {
    let answer = reply(server.post(path, "key", "").header("x-tenant", tenant)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text().to_owned()
}

#[tokio::test]
async fn two_scopes_with_one_key_do_not_meet() {
    let user = |id| {
        Router::<App>::new()
            .route("/", post(by_user))
            .layer(Extension(User { id }))
    };
    // Two mounts of the one operation, told apart by its user only.
    let state = App {
        idempotency: Idempotency::new(MemoryStore::new()),
        probe: Probe::default(),
    };
    for (id, answer) in [(1, "1 in run 1"), (12, "12 in run 2"), (1, "1 in run 1")] {
        let app = user(id).with_state(state.clone());
        let request = http::Request::post("/").header("idempotency-key", "key");
        let request = request.body(axum::body::Body::empty()).unwrap();
        let response = tower::ServiceExt::oneshot(app, request).await.unwrap();
        let body = http_body_util::BodyExt::collect(response.into_body())
            .await
            .unwrap();
        assert_eq!(body.to_bytes(), answer);
    }
}

#[tokio::test]
async fn a_scope_can_use_several_arguments_and_patterns_with_mut() {
    let server = serve(Router::new().route("/{tenant}", post(by_tenant))).await;
    assert_eq!(
        reply(server.post("/a?region=eu", "key", "")).await.text(),
        "a!1 in run 1"
    );
    assert_eq!(
        reply(server.post("/a?region=us", "key", "")).await.text(),
        "a!1 in run 2"
    );
    assert_eq!(
        reply(server.post("/b?region=eu", "key", "")).await.text(),
        "b!1 in run 3"
    );
    assert_eq!(
        reply(server.post("/a?region=eu", "key", "")).await.text(),
        "a!1 in run 1"
    );
}

#[tokio::test]
async fn the_handles_resolver_is_the_default_scope() {
    let builder = Idempotency::builder(MemoryStore::new()).scope(|parts| {
        parts
            .headers
            .get("x-tenant")
            .map(|tenant| tenant.as_bytes().to_vec())
    });
    let server = serve_with(builder, Router::new().route("/", post(unscoped))).await;
    assert_eq!(run(&server, "/", "a").await, "1");
    assert_eq!(run(&server, "/", "b").await, "2");
    assert_eq!(run(&server, "/", "a").await, "1");
    // Without a tenant: a scope of its own, not the empty tenant's.
    assert_eq!(reply(server.post("/", "key", "")).await.text(), "3");
    assert_eq!(run(&server, "/", "").await, "4");
}

#[tokio::test]
async fn without_a_scope_tenants_share_their_keys() {
    let server = serve(Router::new().route("/", post(unscoped))).await;
    assert_eq!(run(&server, "/", "a").await, "1");
    assert_eq!(run(&server, "/", "b").await, "1");
}

#[tokio::test]
async fn namespaces_and_secrets_separate_applications_on_one_store() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let on = || Idempotency::builder(Arc::clone(&store));
    for builder in [
        on(),
        on().namespace("shop"),
        on().secret("s"),
        on().namespace("shop").secret("s"),
    ] {
        let server = serve_with(builder, Router::new().route("/", post(unscoped))).await;
        let answer = reply(server.post("/", "key", "")).await;
        assert_eq!((answer.text(), answer.is_replay()), ("1", false));
    }
    let again = serve_with(
        on().namespace("shop"),
        Router::new().route("/", post(unscoped)),
    )
    .await;
    assert!(reply(again.post("/", "key", "")).await.is_replay());
}

#[idempotent(name = "payments.create")]
async fn named(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

#[tokio::test]
async fn nested_routers_have_the_full_route_and_path() {
    let api = || Router::<App>::new().route("/pay", post(unscoped));
    let server = serve(Router::new().nest("/v1", api()).nest("/v2", api())).await;
    assert_eq!(reply(server.post("/v1/pay", "key", "")).await.text(), "1");
    assert_eq!(reply(server.post("/v2/pay", "key", "")).await.text(), "2");
    assert!(reply(server.post("/v1/pay", "key", "")).await.is_replay());
}

#[tokio::test]
async fn a_named_operation_is_one_wherever_it_is_mounted() {
    let routes = Router::new()
        .route("/old", post(named))
        .route("/new", post(named));
    let server = serve(routes).await;
    assert_eq!(reply(server.post("/old", "key", "")).await.text(), "1");
    // One operation, so one record; the path is another one, so it is not the same request.
    reply(server.post("/new", "key", ""))
        .await
        .assert_problem(422, "key-reused");
}

#[tokio::test]
async fn the_path_of_a_nested_router_counts_with_its_prefix() {
    let api = || Router::<App>::new().route("/pay", post(named));
    let server = serve(Router::new().nest("/v1", api()).nest("/v2", api())).await;
    assert_eq!(reply(server.post("/v1/pay", "key", "")).await.text(), "1");
    reply(server.post("/v2/pay", "key", ""))
        .await
        .assert_problem(422, "key-reused");
}

#[tokio::test]
async fn a_fallback_is_known_by_its_path() {
    let server = serve(Router::new().fallback(unscoped)).await;
    assert_eq!(reply(server.post("/a", "key", "")).await.text(), "1");
    assert_eq!(reply(server.post("/b", "key", "")).await.text(), "2");
    assert!(reply(server.post("/a", "key", "")).await.is_replay());
}

#[derive(Clone)]
struct Unserializable;

impl Serialize for Unserializable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

#[idempotent(scope = thing)]
async fn unserializable(
    State(probe): State<Probe>,
    Extension(thing): Extension<Unserializable>,
) -> String {
    let _ = thing;
    probe.run().to_string()
}

#[tokio::test]
async fn what_cannot_be_serialized_is_a_500_and_nothing_runs() {
    let routes = Router::new()
        .route("/", post(unserializable))
        .layer(Extension(Unserializable));
    let server = serve(routes).await;
    reply(server.post("/", "key", ""))
        .await
        .assert_problem(500, "unusable-input");
    assert_eq!(server.probe.runs(), 0);
    assert!(server.stored_nothing());
}
