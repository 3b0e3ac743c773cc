//! The head of a stream goes out before its end is stored. So an attempt that may have lost its claim makes sure of it first, and answers
//! from the record if it has, as with a whole body.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use futures_util::{StreamExt, stream};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{ListFilter, Store, StoreErrorKind};
use idempotent_runtime::{IdempotencyBuilder, RecordState, idempotent};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::support::{
    App, Fault, FaultyStore, LEASE, Local, Operation, Probe, Reply, builder_on, take_over,
};

/// Its body takes longer than its lease.
#[idempotent(on_abandoned = "retry", lease = "30s", name = "pay")]
async fn streamed(State(probe): State<Probe>) -> Response {
    let run = probe.run_gated().await;
    let pieces = ["charged by ".to_owned(), format!("run {run}")];
    let pieces = stream::iter(pieces).then(|piece| async {
        sleep(2 * LEASE).await;
        Ok::<_, std::io::Error>(Bytes::from(piece))
    });
    Response::new(Body::from_stream(pieces))
}

#[idempotent(on_abandoned = "retry", lease = "30s", name = "pay")]
async fn whole(State(probe): State<Probe>) -> String {
    format!("charged by run {}", probe.run_gated().await)
}

const PATHS: [&str; 2] = ["/streamed", "/whole"];

fn routes() -> Router<App> {
    Router::new()
        .route("/streamed", post(streamed))
        .route("/whole", post(whole))
}

/// A process stands still in its handler, and its lease has ended. The second process has another answer.
struct Frozen {
    store: Arc<FaultyStore>,
    frozen: Local,
    first: JoinHandle<Reply>,
    other: Local,
}

impl Frozen {
    async fn new(path: &'static str) -> Self {
        Self::with(path, |it| it, |it| it).await
    }

    async fn with(
        path: &'static str,
        frozen: fn(IdempotencyBuilder) -> IdempotencyBuilder,
        other: fn(IdempotencyBuilder) -> IdempotencyBuilder,
    ) -> Self {
        let store = Arc::new(FaultyStore::new(MemoryStore::new()));
        let builder = || builder_on(Arc::clone(&store));
        let frozen = Local::with(frozen(builder()), routes());
        let other = Local::with(other(builder()), routes());
        other.probe.run();
        other.probe.started().await;
        let first = frozen.spawn(path, "key");
        frozen.probe.started().await;
        store.script_times(1000, Operation::Renew, Fault::Swallowed);
        sleep(LEASE + Duration::from_secs(1)).await;
        Self {
            store,
            frozen,
            first,
            other,
        }
    }

    /// Goes on where it stood still.
    async fn thaw(self) -> Reply {
        self.store.unscript(Operation::Renew);
        self.frozen.probe.open();
        self.first.await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_comes_back_late_answers_with_the_stored_response() {
    for path in PATHS {
        let frozen = Frozen::new(path).await;
        let other = frozen.other.clone();
        other.probe.open();
        let stored = other.post(path, "key").await;
        assert_eq!(stored.text(), "charged by run 2");
        let idempotency = frozen.frozen.idempotency.clone();
        frozen.thaw().await.assert_replay_of(&stored);
        // What it has streamed is read to its end, and dropped.
        assert_eq!(idempotency.shutdown(10 * LEASE).await, 0, "{path}");
        other.post(path, "key").await.assert_replay_of(&stored);
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_comes_back_while_another_runs_does_not_answer_for_it() {
    for path in PATHS {
        let frozen = Frozen::new(path).await;
        let other = frozen.other.clone();
        let second = other.spawn(path, "key");
        other.probe.started().await;
        let local = frozen.frozen.clone();
        frozen.thaw().await.assert_problem(409, "in-flight");
        other.probe.open();
        let second = second.await.unwrap();
        assert_eq!(second.text(), "charged by run 2", "{path}");
        assert_eq!(local.idempotency.shutdown(10 * LEASE).await, 0);
        local.post(path, "key").await.assert_replay_of(&second);
    }
}

/// A retry of the client while the first process streams: it takes over what is not renewed.
async fn is_in_flight_for_another(other: &Local) {
    other.probe.open();
    sleep(LEASE + Duration::from_secs(20)).await;
    let meanwhile = other.post("/streamed", "key").await;
    meanwhile.assert_problem(409, "in-flight");
}

/// No better answer will follow: it is the one that is stored, and its key is in flight until then.
#[tokio::test(start_paused = true)]
async fn an_owner_whose_successor_has_crashed_answers_for_both() {
    for is_given_up_for_lost in [false, true] {
        let frozen = Frozen::new("/streamed").await;
        take_over(&frozen.store, frozen.store.claimed()).await;
        sleep(LEASE + Duration::from_secs(1)).await;
        if is_given_up_for_lost {
            frozen.store.unscript(Operation::Renew);
            sleep(Duration::from_secs(5)).await;
        }
        let other = frozen.other.clone();
        let late = tokio::spawn(frozen.thaw());
        is_in_flight_for_another(&other).await;
        let late = late.await.unwrap();
        assert_eq!((late.text(), late.is_replay()), ("charged by run 1", false));
        other.post("/streamed", "key").await.assert_replay_of(&late);
    }
}

/// The store has lost the record, and no other attempt has come since.
#[tokio::test(start_paused = true)]
async fn a_record_that_is_gone_is_put_back_before_the_head() {
    let frozen = Frozen::new("/streamed").await;
    frozen.store.forget_claimed().await;
    let other = frozen.other.clone();
    let late = tokio::spawn(frozen.thaw());
    is_in_flight_for_another(&other).await;
    let late = late.await.unwrap();
    assert_eq!(late.text(), "charged by run 1");
    other.post("/streamed", "key").await.assert_replay_of(&late);
}

/// What it says then is better than nothing: storing it goes on.
#[tokio::test(start_paused = true)]
async fn a_stream_goes_out_if_the_store_cannot_be_asked() {
    let frozen = Frozen::new("/streamed").await;
    let (store, other) = (Arc::clone(&frozen.store), frozen.other.clone());
    store.unscript(Operation::Renew);
    let away = Fault::Refused(StoreErrorKind::Unavailable);
    store.script_times(1000, Operation::Renew, away);
    frozen.frozen.probe.open();
    let late = frozen.first.await.unwrap();
    assert_eq!((late.status, late.text()), (200, "charged by run 1"));
    store.unscript(Operation::Renew);
    other.post("/streamed", "key").await.assert_replay_of(&late);
}

/// One that knows only the newer secret has taken the key over there.
#[tokio::test(start_paused = true)]
async fn while_a_secret_is_rotated_every_record_counts() {
    let both: fn(IdempotencyBuilder) -> IdempotencyBuilder =
        |it| it.secret("new").previous_secrets(["old"]);
    let others: [fn(IdempotencyBuilder) -> IdempotencyBuilder; 2] =
        [|it| it.secret("new"), |it| it.secret("old")];
    for other in others {
        for path in PATHS {
            let frozen = Frozen::with(path, both, other).await;
            let other = frozen.other.clone();
            other.probe.open();
            let stored = other.post(path, "key").await;
            assert_eq!(stored.text(), "charged by run 2");
            frozen.thaw().await.assert_replay_of(&stored);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_is_asked_of_the_store_while_the_lease_is_known_to_last() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new()));
    let local = Local::with(builder_on(Arc::clone(&store)), routes());
    local.probe.open();
    let head = local.response("/streamed", "key").await;
    let calls = [Operation::Claim, Operation::Renew, Operation::Get].map(|it| store.calls(it));
    assert_eq!((head.status().as_u16(), calls), (200, [1, 0, 0]));
}

/// An attempt under the new secret alone has taken that record over, and was abandoned before it ran: both records are this
/// process's again, and are renewed while it streams.
#[tokio::test(start_paused = true)]
async fn a_record_that_is_won_back_for_a_stream_is_renewed_like_the_other() {
    let both: fn(IdempotencyBuilder) -> IdempotencyBuilder =
        |it| it.secret("new").previous_secrets(["old"]);
    for is_alias in [true, false] {
        let of_one: fn(IdempotencyBuilder) -> IdempotencyBuilder = match is_alias {
            true => |it| it.secret("new"),
            false => |it| it.secret("old"),
        };
        let frozen = Frozen::with("/streamed", both, of_one).await;
        let alias = frozen.store.claimed();
        let all = frozen.store.list(&ListFilter::new(), None, 10).await;
        let mut keys = all.unwrap().records.into_iter().map(|it| it.key);
        let key = keys.find(|key| (*key == alias) == is_alias).unwrap();
        let owner = take_over(&frozen.store, key).await;
        frozen.store.abandon(&[owner]).await.remove(0).unwrap();
        frozen.store.unscript(Operation::Renew);
        // The renewing task finds out that it is lost.
        sleep(Duration::from_secs(15)).await;
        let (store, other) = (Arc::clone(&frozen.store), frozen.other.clone());
        let thawing = tokio::spawn(frozen.thaw());
        sleep(LEASE + Duration::from_secs(5)).await;
        let record = store.get(&key).await.unwrap().unwrap();
        assert!(
            matches!(record.state, RecordState::Running { .. }),
            "{is_alias}: {record:?}"
        );
        let runs = other.probe.runs();
        other.probe.open();
        let answer = other.post("/streamed", "key").await;
        answer.assert_problem(409, "in-flight");
        assert_eq!(other.probe.runs(), runs);
        assert_eq!(thawing.await.unwrap().text(), "charged by run 1");
    }
}
