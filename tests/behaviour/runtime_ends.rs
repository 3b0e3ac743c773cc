//! A runtime that ends, at any moment: quietly, and no record says less than it did.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use futures_util::{StreamExt, stream};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{ManualClock, Release, idempotent};
use tokio::runtime::Runtime;

use crate::support::{App, Fault, FaultyStore, Local, Operation, Probe};

/// A stream that has no end.
#[idempotent]
async fn open_stream(probe: State<Probe>) -> Response {
    open_stream_of(&probe)
}

fn open_stream_of(probe: &Probe) -> Response {
    probe.run();
    let chunk = stream::once(async { Ok::<_, std::io::Error>(Bytes::from("begun")) });
    Response::new(Body::from_stream(chunk.chain(stream::pending())))
}

/// Renewed every third of a second.
#[idempotent(lease = "1s")]
async fn short_lease(probe: State<Probe>) -> Response {
    open_stream_of(&probe)
}

#[idempotent]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent]
async fn refuse(State(probe): State<Probe>) -> Release<String> {
    Release(probe.run().to_string())
}

fn routes() -> Router<App> {
    Router::new()
        .route("/refuse", post(refuse))
        .route("/open_stream", post(open_stream))
        .route("/short_lease", post(short_lease))
        .route("/pay", post(pay))
}

struct Scene {
    local: Local,
    store: FaultyStore,
    clock: Arc<ManualClock>,
}

fn scene() -> Scene {
    let clock = Arc::new(ManualClock::new());
    let memory = MemoryStore::builder().clock(clock.clone()).build();
    let store = FaultyStore::new(memory);
    Scene {
        local: Local::new(store.clone(), routes()),
        store,
        clock,
    }
}

impl Scene {
    /// Waits for a renewal from now on.
    async fn renewed_again(&self) {
        let renewed = || self.store.calls(Operation::Renew);
        let (before, started) = (renewed(), Instant::now());
        while renewed() == before {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "it is not renewed"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// By now the lease of what was cut off has ended.
    fn assert_abandoned(&self, path: &'static str) {
        self.clock.advance(Duration::from_secs(30));
        let second = runtime(1);
        let retry = second.block_on(self.local.post(path, "key"));
        retry.assert_problem(409, "outcome-unknown");
        assert_eq!(self.local.idempotency.pending(), 0);
    }
}

fn runtime(threads: usize) -> Runtime {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build().unwrap()
}

/// The response, with its body read up to the first piece.
async fn begun(local: &Local) -> Body {
    begun_at(local, "/open_stream").await
}

async fn begun_at(local: &Local, path: &'static str) -> Body {
    let response = local.response(path, "key").await;
    let mut chunks = response.into_body().into_data_stream();
    assert_eq!(chunks.next().await.unwrap().unwrap(), "begun");
    Body::from_stream(chunks)
}

/// It was an endless recursion: a stack overflow, which ends the process.
#[test]
fn runtime_ends_with_an_open_stream() {
    for threads in [1, 2] {
        let scene = scene();
        let local = scene.local.clone();
        let first = runtime(threads);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        first.spawn(async move {
            let body = begun(&local).await;
            sender.send(()).unwrap();
            std::future::pending::<()>().await;
            drop(body);
        });
        first.block_on(receiver).unwrap();
        drop(first);
        scene.assert_abandoned("/open_stream");
    }
}

#[test]
fn open_stream_is_dropped_after_its_runtime() {
    let scene = scene();
    let first = runtime(1);
    let body = first.block_on(begun(&scene.local));
    drop(first);
    drop(body);
    scene.assert_abandoned("/open_stream");
}

/// Its lease ended, and another process could run the request again while this attempt was alive.
#[test]
fn stream_that_is_read_on_another_runtime_is_renewed_there() {
    let scene = scene();
    let first = runtime(1);
    let body = first.block_on(begun_at(&scene.local, "/short_lease"));
    drop(first);
    let second = runtime(2);
    second.block_on(async {
        let reading = tokio::spawn(body.into_data_stream().collect::<Vec<_>>());
        scene.renewed_again().await;
        reading.abort();
    });
}

#[test]
fn stream_that_is_not_read_when_its_runtime_ends_is_renewed_on_one_that_is_known() {
    let scene = scene();
    let (first, second) = (runtime(1), runtime(2));
    let known = second.block_on(scene.local.post("/refuse", "other"));
    assert_eq!(known.text(), "1");
    let body = first.block_on(begun_at(&scene.local, "/short_lease"));
    drop(first);
    second.block_on(scene.renewed_again());
    // Nothing renews it when it is gone.
    drop(body);
    scene.assert_abandoned("/short_lease");
}

#[test]
fn stream_that_is_not_read_when_its_runtime_ends_is_renewed_from_the_next_request_on() {
    let scene = scene();
    let first = runtime(1);
    let body = first.block_on(begun_at(&scene.local, "/short_lease"));
    drop(first);
    let second = runtime(2);
    second.block_on(async {
        let next = scene.local.post("/refuse", "other").await;
        assert_eq!(next.text(), "2");
        scene.renewed_again().await;
    });
    drop(body);
}

#[test]
fn runtime_ends_while_a_stream_is_read_on_in_the_background() {
    let scene = scene();
    let first = runtime(1);
    first.block_on(async {
        drop(begun(&scene.local).await);
        scene.local.pending(2).await;
    });
    drop(first);
    scene.assert_abandoned("/open_stream");
}

#[test]
fn runtime_ends_while_a_handler_runs_on_in_the_background() {
    let scene = scene();
    let first = runtime(1);
    first.block_on(async {
        let request = scene.local.spawn("/pay", "key");
        scene.local.probe.started().await;
        request.abort();
        scene.local.pending(2).await;
    });
    drop(first);
    scene.assert_abandoned("/pay");
}

#[test]
fn runtime_ends_while_a_response_is_being_stored() {
    for fault in [Fault::Waits, Fault::Swallowed] {
        let scene = scene();
        scene.store.script(Operation::Complete, fault);
        scene.local.probe.open();
        let first = runtime(1);
        first.block_on(async {
            scene.local.spawn("/pay", "key");
            scene.local.probe.started().await;
            while scene.store.calls(Operation::Complete) == 0 {
                tokio::task::yield_now().await;
            }
        });
        drop(first);
        scene.assert_abandoned("/pay");
    }
}

/// The request that asked for a claim is gone before it knows of it: nothing has run.
#[test]
fn runtime_ends_while_a_claim_is_on_its_way() {
    let scene = scene();
    scene.store.script(Operation::Claim, Fault::Waits);
    let first = runtime(1);
    first.block_on(async {
        scene.local.spawn("/pay", "key");
        scene.store.waiting().await;
    });
    drop(first);
    scene.local.probe.open();
    let second = runtime(1);
    let retry = second.block_on(scene.local.post("/pay", "key"));
    assert_eq!((retry.status, retry.text()), (200, "1"));
    second.block_on(scene.local.pending(0));
}

/// The call that gives a claim up is on its way: the claim is not forgotten with the runtime.
#[test]
fn claim_that_is_being_given_up_when_a_runtime_ends_is_given_up_by_the_next_one() {
    let scene = scene();
    let (store, local) = (&scene.store, &scene.local);
    store.script_times(4, Operation::Claim, Fault::ReplyLost);
    store.script(Operation::Release, Fault::Swallowed);
    let first = runtime(1);
    first.block_on(async {
        let refused = local.post("/pay", "key").await;
        refused.assert_problem(503, "store-unavailable");
        let asked = async {
            while store.calls(Operation::Release) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), asked)
            .await
            .unwrap();
    });
    drop(first);
    let second = runtime(1);
    second.block_on(async {
        // It serves the queue from here on.
        let refused = local.post("/pay", "other").await;
        refused.assert_problem(503, "store-unavailable");
        let pending = tokio::time::timeout(Duration::from_secs(60), local.pending(0));
        pending.await.expect("both are given up");
        local.probe.open();
        assert_eq!(local.post("/pay", "key").await.text(), "1");
    });
}

/// The store has claimed, and the runtime ends before that is known. Nothing has run, and the key was abandoned with its lease.
#[test]
fn runtime_ends_while_the_reply_to_a_claim_is_on_its_way() {
    let scene = scene();
    let (store, local) = (&scene.store, &scene.local);
    store.script(Operation::Claim, Fault::ReplyWaits);
    let first = runtime(1);
    first.block_on(async {
        local.spawn("/pay", "key");
        store.waiting().await;
    });
    drop(first);
    assert_given_up_by_the_next_request(&scene);
}

/// Nothing gave the claim up before the next runtime had one of its own to give up.
#[test]
fn claim_that_is_being_given_up_when_a_runtime_ends_is_given_up_at_the_next_request() {
    let scene = scene();
    let (store, local) = (&scene.store, &scene.local);
    give_up_in_vain(&scene);
    assert_eq!(store.calls(Operation::Release), 1);
    assert_given_up_by_the_next_request(&scene);
    assert_eq!(local.probe.runs(), 2);
}

/// It waited for that until its deadline.
#[test]
fn claim_that_is_being_given_up_when_a_runtime_ends_is_given_up_by_a_shutdown() {
    let scene = scene();
    give_up_in_vain(&scene);
    let second = runtime(1);
    let shutdown = scene.local.idempotency.shutdown(Duration::from_secs(60));
    assert_eq!(second.block_on(shutdown), 0);
    assert_eq!(scene.store.calls(Operation::Release), 2);
    assert_eq!(scene.local.idempotency.pending(), 0);
}

/// The handler has said that nothing happened. The key was abandoned with its lease.
#[test]
fn runtime_ends_while_a_claim_is_being_released() {
    for fault in [Fault::Swallowed, Fault::Waits, Fault::ReplyWaits] {
        let scene = scene();
        let (store, local) = (&scene.store, &scene.local);
        store.script(Operation::Release, fault);
        let first = runtime(1);
        first.block_on(async {
            local.spawn("/refuse", "key");
            while store.calls(Operation::Release) == 0 {
                tokio::task::yield_now().await;
            }
        });
        drop(first);
        let second = runtime(1);
        second.block_on(async {
            assert_eq!(local.post("/refuse", "other").await.text(), "2");
            let given_up = tokio::time::timeout(Duration::from_secs(60), local.pending(0));
            given_up.await.expect("it is given up");
            assert_eq!(local.post("/refuse", "key").await.text(), "3");
        });
    }
}

/// A request is refused whose claim has happened, and its runtime ends while that is given up.
fn give_up_in_vain(scene: &Scene) {
    let (store, local) = (&scene.store, &scene.local);
    store.script_times(2, Operation::Claim, Fault::ReplyLost);
    store.script(Operation::Release, Fault::Swallowed);
    let first = runtime(1);
    first.block_on(async {
        let refused = local.post("/pay", "key").await;
        refused.assert_problem(503, "store-unavailable");
        while store.calls(Operation::Release) == 0 {
            tokio::task::yield_now().await;
        }
    });
    drop(first);
}

/// Of any key.
fn assert_given_up_by_the_next_request(scene: &Scene) {
    let local = &scene.local;
    let second = runtime(1);
    second.block_on(async {
        local.probe.open();
        assert_eq!(local.post("/pay", "other").await.text(), "1");
        let given_up = tokio::time::timeout(Duration::from_secs(60), local.pending(0));
        given_up.await.expect("it is given up");
        local.probe.open();
        assert_eq!(local.post("/pay", "key").await.text(), "2");
    });
}
