//! Handlers survive their client.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Router};
use futures_util::future::join;
use http::StatusCode;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{ManualClock, idempotent};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tower_http::timeout::TimeoutLayer;

use crate::support::{
    App, Fault, FaultyStore, Local, Operation, Probe, Server, raw_stream, reply, serve, serve_on,
};

#[idempotent]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

fn routes() -> Router<App> {
    Router::new().route("/pay", post(pay))
}

const REQUEST: &str =
    "POST /pay HTTP/1.1\r\nhost: example.com\r\nidempotency-key: key\r\ncontent-length: 0\r\n\r\n";

/// The client is gone: waits until the server has noticed, lets the handler finish, and retries.
async fn assert_ran_once(server: &Server) {
    noticed(server).await;
    server.probe.open();
    let retry = server.settled(server.post("/pay", "key", "")).await;
    assert_eq!(
        (retry.status, retry.text(), retry.is_replay()),
        (200, "1", true)
    );
    assert_eq!((server.probe.runs(), server.probe.finished()), (1, 1));
}

/// Waits until a handler has moved to the background: besides the claim there is a task then.
async fn noticed(server: &Server) {
    server.pending(2).await;
}

#[tokio::test]
async fn http_1_close() {
    let server = serve(routes()).await;
    let stream = raw_stream(server.address, REQUEST).await;
    server.probe.started().await;
    drop(stream);
    assert_ran_once(&server).await;
}

#[tokio::test]
async fn http_1_half_close() {
    let server = serve(routes()).await;
    let mut stream = raw_stream(server.address, REQUEST).await;
    server.probe.started().await;
    stream.shutdown().await.unwrap();
    assert_ran_once(&server).await;
}

#[tokio::test]
async fn http_2_reset() {
    let server = serve(routes()).await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let url = format!("http://{}/pay", server.address);
    // The connection stays open: dropping the request resets its stream only.
    let request = tokio::spawn(client.post(&url).header("idempotency-key", "key").send());
    server.probe.started().await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    noticed(&server).await;
    server.probe.open();
    let retry = client.post(&url).header("idempotency-key", "key");
    let retry = server.settled(retry).await;
    assert_eq!(
        (retry.status, retry.text(), retry.is_replay()),
        (200, "1", true)
    );
    assert_eq!((server.probe.runs(), server.probe.finished()), (1, 1));
}

#[tokio::test]
async fn a_timeout_layer() {
    let limit =
        TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_millis(50));
    let server = serve(routes().layer(limit)).await;
    let timed_out = reply(server.post("/pay", "key", "")).await;
    assert_eq!(timed_out.status, 504);
    assert_ran_once(&server).await;
}

/// When told to, the first request's task panics.
#[derive(Clone)]
struct Bomb(Arc<Mutex<Option<oneshot::Receiver<()>>>>);

async fn armed(Extension(Bomb(bomb)): Extension<Bomb>, request: Request, next: Next) -> Response {
    let bomb = bomb.lock().unwrap().take();
    let explode = async {
        if let Some(bomb) = bomb {
            bomb.await.unwrap();
            panic!("next to the handler");
        }
    };
    join(next.run(request), explode).await.0
}

#[tokio::test]
async fn a_panic_in_a_layer() {
    let (fuse, bomb) = oneshot::channel();
    let bomb = Bomb(Arc::new(Mutex::new(Some(bomb))));
    let layered = routes().layer(from_fn(armed)).layer(Extension(bomb));
    let server = serve(layered).await;
    let request = tokio::spawn(server.post("/pay", "key", "").send());
    server.probe.started().await;
    fuse.send(()).unwrap();
    assert!(request.await.unwrap().is_err());
    assert_ran_once(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_drop_on_a_thread_that_has_no_runtime() {
    let local = Local::new(MemoryStore::new(), routes());
    let asking = local.clone();
    let mut request = Box::pin(async move { asking.post("/pay", "key").await });
    tokio::select! {
        _ = &mut request => panic!("the gate is closed"),
        () = local.probe.started() => {}
    }
    std::thread::spawn(move || drop(request)).join().unwrap();
    local.pending(2).await;
    local.probe.open();
    local.pending(0).await;
    let retry = local.post("/pay", "key").await;
    assert_eq!((retry.text(), retry.is_replay()), ("1", true));
}

#[tokio::test]
async fn a_panic_in_the_background_is_stored_too() {
    #[idempotent]
    async fn panics(State(probe): State<Probe>) -> String {
        let run = probe.run_gated().await;
        panic!("in run {run}");
    }
    let server = serve(Router::new().route("/pay", post(panics))).await;
    let stream = raw_stream(server.address, REQUEST).await;
    server.probe.started().await;
    drop(stream);
    noticed(&server).await;
    server.probe.open();
    let retry = server.settled(server.post("/pay", "key", "")).await;
    retry.assert_problem(500, "handler-failed");
    assert!(retry.is_replay());
    assert_eq!(server.probe.runs(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_during_the_claim_leaves_no_claim_behind() {
    let store = FaultyStore::new(MemoryStore::new());
    let server = serve_on(store.clone(), routes()).await;
    store.script(Operation::Claim, Fault::Waits);
    let stream = raw_stream(server.address, REQUEST).await;
    store.waiting().await;
    drop(stream);
    noticed(&server).await;
    store.proceed();
    server.pending(0).await;
    assert_eq!(
        (server.probe.runs(), store.calls(Operation::Release)),
        (0, 1)
    );
    server.probe.open();
    let retry = reply(server.post("/pay", "key", "")).await;
    assert_eq!((retry.text(), retry.is_replay()), ("1", false));
}

#[tokio::test]
async fn a_client_that_leaves_during_the_completion_finds_it_completed() {
    let store = FaultyStore::new(MemoryStore::new());
    let server = serve_on(store.clone(), routes()).await;
    store.script(Operation::Complete, Fault::Waits);
    server.probe.open();
    let stream = raw_stream(server.address, REQUEST).await;
    store.waiting().await;
    drop(stream);
    noticed(&server).await;
    store.proceed();
    let retry = server.settled(server.post("/pay", "key", "")).await;
    assert_eq!((retry.text(), retry.is_replay()), ("1", true));
    assert_eq!(server.probe.runs(), 1);
}

/// A runtime that ends in the middle of a handler is what a crash looks like from the inside: the
/// effect may have happened, so the key must not be free.
#[test]
fn a_handler_that_is_cut_off_leaves_its_key_taken() {
    let clock = Arc::new(ManualClock::new());
    let store = MemoryStore::builder().clock(clock.clone()).build();
    let local = Local::new(store, routes());
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };

    let first = runtime();
    first.block_on(async {
        local.spawn("/pay", "key");
        local.probe.started().await;
    });
    drop(first);
    let second = runtime();
    let ask = || second.block_on(local.post("/pay", "key"));
    ask().assert_problem(409, "in-flight");
    clock.advance(Duration::from_secs(30));
    ask().assert_problem(409, "outcome-unknown");
    assert_eq!((local.probe.runs(), local.probe.finished()), (1, 0));
}
