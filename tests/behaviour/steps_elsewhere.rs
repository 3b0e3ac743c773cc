//! Steps in code that is not async: on a runtime of its own, and on a thread that is blocked.

use std::sync::mpsc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Attempt, idempotent};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::support::{App, Fault, FaultyStore, Local, Operation, Probe, builder_on};

/// Code that is not async has a runtime of its own, as it does everywhere: it is driven while something is awaited on it, and
/// kept for the next time.
async fn sync_part(attempt: &Attempt) {
    let own = attempt.clone();
    let sync = tokio::task::spawn_blocking(move || {
        let runtime: Runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let step = async {
            let step = own.step("mail", async { Ok::<_, String>(1) });
            drop(timeout(Duration::from_millis(50), step).await);
        };
        runtime.block_on(step);
        runtime
    });
    // Kept, as in a static.
    Box::leak(Box::new(sync.await.unwrap()));
}

#[idempotent(name = "sync", lease = "30s")]
async fn goes_on(attempt: Attempt, State(probe): State<Probe>) -> String {
    sync_part(&attempt).await;
    let run = probe.run();
    let step = attempt.step("charge", async { Ok::<_, String>(2) }).await;
    format!("{run} {step:?}")
}

/// Its answer is not stored, and a step says that something happened: the key becomes abandoned.
#[idempotent(name = "sync-fails", lease = "30s", replay_errors = "none")]
async fn panics(attempt: Attempt, State(probe): State<Probe>) -> http::StatusCode {
    sync_part(&attempt).await;
    probe.run();
    http::StatusCode::INTERNAL_SERVER_ERROR
}

async fn answered_behind_a_runtime_that_is_not_driven(path: &'static str, key: &'static str) {
    let store = FaultyStore::new(MemoryStore::new());
    let routes: Router<App> = Router::new()
        .route("/goes-on", post(goes_on))
        .route("/panics", post(panics));
    let local = Local::with(builder_on(store.clone()), routes);
    // The store is slow until the step is given up, and no longer.
    store.script(Operation::SaveProgress, Fault::Waits);
    let first = local.spawn(path, key);
    store.waiting().await;
    local.probe.started().await;
    store.proceed();
    let first = timeout(Duration::from_secs(20), first).await;
    let again = timeout(Duration::from_secs(5), local.post(path, key)).await;
    assert!(
        first.is_ok(),
        "no answer within 20 s of a store that was slow for a moment; the retry: {again:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn step_after_one_on_a_runtime_that_is_not_driven_any_more() {
    answered_behind_a_runtime_that_is_not_driven("/goes-on", "key").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn error_after_a_step_on_a_runtime_that_is_not_driven_any_more() {
    answered_behind_a_runtime_that_is_not_driven("/panics", "key").await;
}

#[idempotent(name = "blocks")]
async fn blocks(attempt: Attempt, State(probe): State<Probe>) -> String {
    probe.run();
    let step = block_on(attempt.step("charge", async { Ok::<_, String>(1) }));
    format!("{step:?}")
}

/// `futures::executor::block_on`, without the dependency.
fn block_on<F: Future>(future: F) -> F::Output {
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake};
    struct Thread(std::thread::Thread);
    impl Wake for Thread {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Thread(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// On the memory store nothing is waited for.
#[test]
fn step_in_block_on_in_a_runtime_of_one_thread() {
    let (sender, answers) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(async {
            let routes: Router<App> = Router::new().route("/blocks", post(blocks));
            let local = Local::with(builder_on(MemoryStore::new()), routes);
            local.post("/blocks", "key").await
        });
        sender.send(answer).unwrap();
    });
    let answer = answers.recv_timeout(Duration::from_secs(10));
    assert!(answer.is_ok(), "the whole runtime stands still: {answer:?}");
}

#[idempotent(name = "sync-only", lease = "30s")]
async fn sync_only(attempt: Attempt, State(probe): State<Probe>) -> String {
    sync_part(&attempt).await;
    probe.run().to_string()
}

/// The request is answered and its response is stored: nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_after_a_step_on_a_runtime_that_is_not_driven_any_more() {
    let store = FaultyStore::new(MemoryStore::new());
    let routes: Router<App> = Router::new().route("/sync-only", post(sync_only));
    let local = Local::with(builder_on(store.clone()), routes);
    store.script(Operation::SaveProgress, Fault::Waits);
    let first = local.spawn("/sync-only", "key");
    store.waiting().await;
    local.probe.started().await;
    store.proceed();
    let first = timeout(Duration::from_secs(20), first)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(first.status, 200);
    local.pending(0).await;
    let unfinished = local.idempotency.shutdown(Duration::from_secs(10)).await;
    assert_eq!(unfinished, 0, "nothing goes on");
}
