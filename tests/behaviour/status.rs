//! `Idempotency-Status`: every answer of a protected operation says what it has to do with its key, and for how long a
//! response is replayed.

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{OnStoreFailure, Release, idempotent};
use serde::Deserialize;

use crate::support::{
    App, Fault, FaultyStore, Operation, Probe, Server, builder_on, reply, serve, serve_with,
};

#[idempotent(ttl_hours = 24)]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent]
async fn refuse(State(probe): State<Probe>) -> Release<String> {
    Release(probe.run().to_string())
}

#[idempotent(replay_errors = "none")]
async fn fail() -> StatusCode {
    StatusCode::BAD_GATEWAY
}

#[idempotent(max_response_bytes = 1)]
async fn too_large() -> &'static str {
    "more than a byte"
}

#[idempotent]
async fn streamed() -> Response {
    let chunks = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"chunk"))]);
    Response::new(Body::from_stream(chunks))
}

#[idempotent(required = false)]
async fn optional() -> &'static str {
    "done"
}

#[derive(Deserialize)]
struct Order {
    amount: u64,
}

#[idempotent]
async fn order(Json(order): Json<Order>) -> String {
    order.amount.to_string()
}

fn routes() -> Router<App> {
    Router::new()
        .route("/pay", post(pay).get(pay))
        .route("/refuse", post(refuse))
        .route("/fail", post(fail))
        .route("/too-large", post(too_large))
        .route("/streamed", post(streamed))
        .route("/optional", post(optional))
        .route("/order", post(order))
}

async fn faulty() -> (Server, FaultyStore) {
    let store = FaultyStore::new(MemoryStore::new());
    let builder = builder_on(store.clone())
        .on_store_failure(OnStoreFailure::FailOpen)
        .status_header(true);
    (serve_with(builder, routes()).await, store)
}

const DAY: &str = "; lifetime=86400";

async fn status_of(request: reqwest::RequestBuilder) -> String {
    let reply = reply(request).await;
    let status = reply.header("idempotency-status").expect("a status");
    let status = status
        .strip_suffix(DAY)
        .expect("the lifetime of the operation");
    status.to_owned()
}

#[tokio::test]
async fn stored_then_replayed_and_in_flight_meanwhile() {
    let (server, _) = faulty().await;
    let first = tokio::spawn(status_of(server.post("/pay", "key", "")));
    server.probe.started().await;
    assert_eq!(status_of(server.post("/pay", "key", "")).await, "in-flight");
    server.probe.open();
    assert_eq!(first.await.unwrap(), "stored");
    assert_eq!(status_of(server.post("/pay", "key", "")).await, "replayed");
    let other = server.post("/pay", "key", "another");
    assert_eq!(status_of(other).await, "key-reused");
}

#[tokio::test]
async fn a_replay_has_the_status_of_its_own_request() {
    let (server, _) = faulty().await;
    server.probe.open();
    reply(server.post("/pay", "key", "")).await;
    let replay = reply(server.post("/pay", "key", "")).await;
    let statuses = replay.headers.get_all("idempotency-status").iter();
    assert_eq!(statuses.count(), 1);
}

#[tokio::test]
async fn what_leaves_the_key_free_is_not_stored() {
    let (server, _) = faulty().await;
    assert_eq!(
        status_of(server.post("/refuse", "key", "")).await,
        "not-stored"
    );
    assert_eq!(
        status_of(server.post("/fail", "key", "")).await,
        "not-stored"
    );
    let rejected = server
        .post("/order", "key", "{")
        .header("content-type", "application/json");
    assert_eq!(status_of(rejected).await, "not-stored");
}

#[tokio::test]
async fn a_tombstone_is_stored_and_a_stream_will_be() {
    let (server, _) = faulty().await;
    assert_eq!(
        status_of(server.post("/too-large", "key", "")).await,
        "stored"
    );
    assert_eq!(
        status_of(server.post("/too-large", "key", "")).await,
        "replayed"
    );
    assert_eq!(
        status_of(server.post("/streamed", "key", "")).await,
        "pending"
    );
    assert_eq!(
        status_of(server.post("/streamed", "key", "")).await,
        "replayed"
    );
}

#[tokio::test]
async fn what_the_store_does_not_accept_is_pending_and_not_stored() {
    let (server, store) = faulty().await;
    server.probe.open();
    store.script(
        Operation::Complete,
        Fault::Refused(StoreErrorKind::Unavailable),
    );
    assert_eq!(status_of(server.post("/pay", "key", "")).await, "pending");
    server.pending(0).await;
    assert_eq!(status_of(server.post("/pay", "key", "")).await, "replayed");
}

#[tokio::test]
async fn what_is_not_protected_says_so() {
    let (server, store) = faulty().await;
    assert_eq!(
        status_of(server.post_without_key("/optional")).await,
        "unprotected"
    );
    assert_eq!(
        status_of(server.post_without_key("/pay")).await,
        "missing-key"
    );
    let away = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(2, Operation::Claim, away);
    assert_eq!(
        status_of(server.post("/optional", "key", "")).await,
        "unprotected"
    );
}

#[tokio::test]
async fn it_is_a_choice_and_a_safe_method_has_none() {
    let server = serve(routes()).await;
    let silent = reply(server.post("/refuse", "key", "")).await;
    assert_eq!(silent.header("idempotency-status"), None);
    let (server, _) = faulty().await;
    server.probe.open();
    let safe = reply(server.request(reqwest::Method::GET, "/pay", "key")).await;
    assert_eq!(safe.header("idempotency-status"), None);
}
