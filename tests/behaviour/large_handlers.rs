//! Handlers whose futures are large: axum alone can run them, and so must the attribute.

use std::hint::black_box;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::idempotent;
use idempotent_runtime::store::memory::MemoryStore;

use crate::support::{App, FaultyStore, Local, Probe};

/// What axum alone can run in a debug build, on a stack of the default size.
const BYTES: usize = 448 * 1024;

/// Holds this much across an await, and so in its future.
async fn hold<const N: usize>(probe: &Probe) -> String {
    let held = [1_u8; N];
    let run = probe.run();
    tokio::task::yield_now().await;
    format!("{} bytes in run {run}", black_box(&held).len())
}

async fn bare(State(probe): State<Probe>) -> String {
    hold::<BYTES>(&probe).await
}

#[idempotent]
async fn large(State(probe): State<Probe>) -> String {
    hold::<BYTES>(&probe).await
}

#[idempotent(scope = body.len())]
async fn large_with_expression(State(probe): State<Probe>, body: String) -> String {
    drop(body);
    hold::<BYTES>(&probe).await
}

#[idempotent(required = false)]
async fn large_without_key(State(probe): State<Probe>) -> String {
    hold::<BYTES>(&probe).await
}

fn routes() -> Router<App> {
    Router::new()
        .route("/bare", post(bare))
        .route("/large", post(large))
        .route("/large_with_expression", post(large_with_expression))
        .route("/large_without_key", post(large_without_key))
}

/// On a thread of its own, with the stack that a worker thread has.
fn on_default_stack<T: Send + 'static>(test: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        // A task, as a server's handlers are: in a box.
        runtime.block_on(Box::pin(async { test().await }))
    };
    thread.spawn(run).unwrap().join().unwrap()
}

#[test]
fn axum_alone_runs_a_handler_of_this_size() {
    on_default_stack(async || {
        let local = Local::new(MemoryStore::new(), routes());
        assert_eq!(local.post("/bare", "key").await.status, 200);
    });
}

#[test]
fn large_handler_runs_on_a_default_stack_and_is_replayed() {
    on_default_stack(async || {
        for path in ["/large", "/large_with_expression"] {
            let local = Local::new(MemoryStore::new(), routes());
            let first = local.post(path, "key").await;
            assert_eq!(first.text(), format!("{BYTES} bytes in run 1"));
            local.post(path, "key").await.assert_replay_of(&first);
        }
    });
}

#[test]
fn large_handler_runs_on_a_default_stack_on_a_store_that_waits() {
    on_default_stack(async || {
        let store = FaultyStore::new(MemoryStore::new());
        let local = Local::new(store, routes());
        let first = local.post("/large", "key").await;
        assert_eq!(first.text(), format!("{BYTES} bytes in run 1"));
        local.post("/large", "key").await.assert_replay_of(&first);
    });
}

#[test]
fn large_handler_runs_on_a_default_stack_without_a_key() {
    on_default_stack(async || {
        let local = Local::new(MemoryStore::new(), routes());
        let first = local.post_without_key("/large_without_key").await;
        assert_eq!(first.text(), format!("{BYTES} bytes in run 1"));
    });
}
