//! A handler that blocks its thread ends no lease, neither its own nor another's, while its runtime has other threads.
//!
//! In real time: it is about threads, and each test takes a few leases of a second.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::thread::sleep;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::idempotent;
use idempotent_runtime::store::Store;
use idempotent_runtime::store::memory::MemoryStore;
use tokio::runtime::{Builder, Runtime};

use crate::support::{App, Local, Probe, Reply};

const LEASE: Duration = Duration::from_secs(1);

/// The longest time that a handler waits which a failed test has not let through.
const LONGEST: Duration = Duration::from_secs(20);

/// Keeps its thread until it is let through.
#[idempotent(lease = "1s")]
async fn blocking(State(probe): State<Probe>) -> String {
    let mut run = pin!(probe.run_gated());
    let mut context = Context::from_waker(Waker::noop());
    let begun = std::time::Instant::now();
    while run.as_mut().poll(&mut context).is_pending() && begun.elapsed() < LONGEST {
        sleep(Duration::from_millis(5));
    }
    "done".to_owned()
}

#[idempotent(lease = "1s")]
async fn waiting(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent(lease = "1s")]
async fn quick() -> &'static str {
    "done"
}

fn routes() -> Router<App> {
    Router::new()
        .route("/blocking", post(blocking))
        .route("/waiting", post(waiting))
        .route("/quick", post(quick))
}

fn threads() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(4).enable_all().build().unwrap()
}

/// An application on a runtime of its own.
struct Process {
    runtime: Runtime,
    local: Local,
}

impl Process {
    fn new(store: impl Store) -> Self {
        Self::on(threads(), store)
    }

    fn on(runtime: Runtime, store: impl Store) -> Self {
        let local = Local::new(store, routes());
        Self { runtime, local }
    }

    /// Begins a handler on one of the runtime's threads.
    fn begin(&self, path: &'static str) {
        let local = self.local.clone();
        self.runtime
            .spawn(async move { local.post(path, "key").await });
        self.runtime.block_on(self.local.probe.started());
    }

    fn post(&self, path: &str, key: &str) -> Reply {
        self.runtime.block_on(self.local.post(path, key))
    }

    /// Begins a handler that blocks its thread, and one that does not, and sees from another process that both keep
    /// their leases.
    fn assert_keeps_leases(&self, other: &Self) {
        self.begin("/blocking");
        self.begin("/waiting");
        sleep(2 * LEASE);
        let duplicates = ["/blocking", "/waiting"].map(|path| other.post(path, "key"));
        for _ in &duplicates {
            self.local.probe.open();
        }
        for duplicate in duplicates {
            duplicate.assert_problem(409, "in-flight");
        }
    }
}

#[test]
fn first_handler_of_a_process_may_block_its_thread() {
    let store = Arc::new(MemoryStore::new());
    Process::new(Arc::clone(&store)).assert_keeps_leases(&Process::new(store));
}

/// Here the task that renews leases has nothing to wait for, and the claim wakes it.
#[test]
fn handler_of_a_process_that_was_idle_may_block_its_thread() {
    let store = Arc::new(MemoryStore::new());
    let process = Process::new(Arc::clone(&store));
    let local = process.local.clone();
    let warm = process
        .runtime
        .spawn(async move { local.post("/quick", "key").await });
    assert_eq!(process.runtime.block_on(warm).unwrap().status, 200);
    sleep(LEASE / 2);
    process.assert_keeps_leases(&Process::new(store));
}

#[cfg(feature = "redis")]
#[test]
fn handler_may_block_its_thread_with_redis_as_well() {
    use idempotent_runtime::store::redis::RedisStore;
    let Ok(url) = std::env::var("IDEMPOTENT_TEST_REDIS_URL") else {
        return;
    };
    let prefix = format!("blocked-threads-{}:", std::process::id());
    let store = |runtime: &Runtime| {
        let store = runtime.block_on(RedisStore::connect(&url)).unwrap();
        store.with_prefix(&prefix).unwrap()
    };
    let (runtime, other) = (threads(), threads());
    let (ours, theirs) = (store(&runtime), store(&other));
    Process::on(runtime, ours).assert_keeps_leases(&Process::on(other, theirs));
}
