//! Take-overs that come to nothing leave the key as they found it: abandoned. Only the application's
//! recovery function may speak for an attempt that crashed, and only about that attempt.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::StatusCode;
use idempotent_runtime::store::{Acquired, Claim, ClaimRequest, Store, StoreErrorKind};
use idempotent_runtime::{
    Abandoned, Attempt, Idempotency, ManualClock, Owner, RecordState, Recovery, Release,
    StoredResponse, Token, idempotent,
};
use tokio::time::sleep;

use crate::support::{
    App, Crashes, Fault, FaultyStore, Local, Operation, Probe, Server, raw_stream, reply, serve_on,
};

const LEASE: Duration = Duration::from_secs(30);

#[idempotent(on_abandoned = find)]
async fn recover(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

async fn find(_: Abandoned) -> Recovery {
    Recovery::Replay(StoredResponse::new(
        StatusCode::CREATED,
        http::HeaderMap::new(),
        "found",
    ))
}

#[idempotent(on_abandoned = "retry")]
async fn retry(attempt: Attempt, State(probe): State<Probe>) -> String {
    probe.run_gated().await;
    format!("attempt {}", attempt.number())
}

/// The second attempt is to find out what the first one did, and cannot.
#[idempotent(on_abandoned = "retry", replay_errors = "4xx")]
async fn unreachable_once(attempt: Attempt, State(probe): State<Probe>) -> (StatusCode, String) {
    probe.run_gated().await;
    let status = match attempt.number() {
        2 => StatusCode::BAD_GATEWAY,
        _ => StatusCode::OK,
    };
    (status, format!("attempt {}", attempt.number()))
}

#[idempotent(on_abandoned = "retry")]
async fn released_once(
    attempt: Attempt,
    State(probe): State<Probe>,
) -> Result<String, Release<String>> {
    probe.run_gated().await;
    match attempt.number() {
        2 => Err(Release("attempt 2".to_owned())),
        number => Ok(format!("attempt {number}")),
    }
}

#[idempotent(on_abandoned = find_too_late, in_flight = "wait", wait = "1h")]
async fn overtaken(attempt: Attempt, State(probe): State<Probe>) -> String {
    let run = probe.run_gated().await;
    format!("attempt {} in run {run}", attempt.number())
}

#[idempotent(on_abandoned = "retry", replay_errors = "none")]
async fn charged(attempt: Attempt, State(probe): State<Probe>) -> StatusCode {
    probe.run_gated().await;
    let charge = async { Ok::<_, std::convert::Infallible>(1) };
    drop(attempt.step("charge", charge).await);
    StatusCode::BAD_GATEWAY
}

fn routes() -> Router<App> {
    Router::new()
        .route("/charged", post(charged))
        .route("/recover", post(recover))
        .route("/retry", post(retry))
        .route("/unreachable-once", post(unreachable_once))
        .route("/released-once", post(released_once))
        .route("/overtaken", post(overtaken))
}

/// A store on which a process has stopped in the middle of a handler, and the lease has ended. What
/// became of that process cannot be seen from here; it never goes on.
async fn crashed(path: &'static str) -> FaultyStore {
    let clock = Arc::new(ManualClock::new());
    let store = FaultyStore::certain(&clock);
    let process = Local::new(store.clone(), routes());
    drop(process.spawn(path, "key"));
    process.probe.started().await;
    clock.advance(LEASE);
    store
}

/// The process that comes after it, whose handlers are not held up.
async fn next_process(store: &FaultyStore) -> Server {
    let server = serve_on(store.clone(), routes()).await;
    for _ in 0..5 {
        server.probe.open();
    }
    server
}

fn request(path: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: example.com\r\nidempotency-key: key\r\n\
         content-length: 0\r\n\r\n"
    )
}

/// A client that goes away while the store is at it.
async fn leave_during(operation: Operation, path: &str, server: &Server, store: &FaultyStore) {
    if operation == Operation::Claim {
        // The first one only finds out that there is something to take over.
        store.script(Operation::Claim, Fault::Works);
    }
    store.script(operation, Fault::Waits);
    let stream = raw_stream(server.address, request(path)).await;
    store.waiting().await;
    drop(stream);
    // The claim, and the task that it has moved to.
    server.pending(2).await;
    store.proceed();
    server.pending(0).await;
}

/// The recovery function is asked, and its finding is what is replayed: nothing has run.
async fn assert_found(server: &Server) {
    for _ in 0..2 {
        let found = reply(server.post("/recover", "key", "")).await;
        assert_eq!(
            (found.status, found.text(), found.is_replay()),
            (201, "found", true)
        );
    }
    assert_eq!(server.probe.runs(), 0);
}

#[tokio::test]
async fn a_take_over_without_a_reply_leaves_the_key_abandoned() {
    let store = crashed("/recover").await;
    let server = next_process(&store).await;
    store.script(Operation::Claim, Fault::Works);
    store.script(Operation::Claim, Fault::ReplyLost);
    store.script(Operation::Claim, Fault::ReplyLost);
    reply(server.post("/recover", "key", ""))
        .await
        .assert_problem(503, "store-unavailable");
    server.pending(0).await;
    assert_found(&server).await;
}

/// A take-over without a reply arrived between the look at what it had become and the release of what was
/// seen there: the crash was forgotten, and the key free.
#[tokio::test(start_paused = true)]
async fn a_late_take_over_frees_no_key() {
    let store = crashed("/recover").await;
    let key = store.claimed();
    let local = Local::new(store.clone(), routes());
    store.script(Operation::Claim, Fault::Works);
    store.script(Operation::Claim, Fault::Late);
    store.script(
        Operation::Claim,
        Fault::Refused(StoreErrorKind::Unavailable),
    );
    store.script(Operation::Release, Fault::Waits);
    let failed = local.post("/recover", "key").await;
    failed.assert_problem(503, "store-unavailable");
    // The claim comes to the store, and then what was to give it up.
    for _ in 0..2 {
        sleep(Duration::from_secs(1)).await;
        store.proceed();
    }
    sleep(LEASE).await;
    let record = store.get(&key).await.unwrap().expect("the record");
    assert_eq!(record.attempt, 2);
    assert!(matches!(record.state, RecordState::Abandoned), "{record:?}");
}

/// A take-over had no reply, and the record was gone when it was asked again: the claim was the first one of a new record. A step
/// was done there, and the key freed all the same, where the store did not reply when it was abandoned.
#[tokio::test(start_paused = true)]
async fn a_take_over_that_begins_a_record_does_not_free_what_has_acted() {
    let store = crashed("/charged").await;
    let key = store.claimed();
    let local = Local::new(store.clone(), routes());
    for fault in [Fault::Works, Fault::Swallowed, Fault::Waits] {
        store.script(Operation::Claim, fault);
    }
    let away = Fault::Refused(StoreErrorKind::Unavailable);
    store.script(Operation::Abandon, away);
    let charging = local.spawn("/charged", "key");
    store.waiting().await;
    store.remove(&key).await.unwrap();
    store.proceed();
    local.probe.open();
    assert_eq!(charging.await.unwrap().status, 502);
    sleep(Duration::from_secs(5)).await;
    let record = store.get(&key).await.unwrap().expect("the record");
    assert_eq!(record.attempt, 1);
    assert!(matches!(record.state, RecordState::Abandoned), "{record:?}");
}

#[tokio::test]
async fn a_client_that_leaves_during_a_take_over_leaves_the_key_abandoned() {
    let store = crashed("/recover").await;
    let server = next_process(&store).await;
    leave_during(Operation::Claim, "/recover", &server, &store).await;
    assert_found(&server).await;
}

#[tokio::test]
async fn a_client_that_leaves_while_its_key_is_settled_finds_it_settled() {
    let store = crashed("/recover").await;
    let server = next_process(&store).await;
    leave_during(Operation::Complete, "/recover", &server, &store).await;
    assert_found(&server).await;
}

#[tokio::test]
async fn an_attempt_that_came_to_nothing_counts() {
    let store = crashed("/retry").await;
    let server = next_process(&store).await;
    leave_during(Operation::Claim, "/retry", &server, &store).await;
    let done = reply(server.post("/retry", "key", "")).await;
    assert_eq!((done.text(), done.is_replay()), ("attempt 3", false));
}

#[tokio::test]
async fn an_attempt_after_a_crash_does_not_free_the_key_whatever_it_answers() {
    for (path, status) in [("/unreachable-once", 502), ("/released-once", 200)] {
        let store = crashed(path).await;
        let server = next_process(&store).await;
        let second = reply(server.post(path, "key", "")).await;
        assert_eq!((second.status, second.text()), (status, "attempt 2"));
        let third = reply(server.post(path, "key", "")).await;
        assert_eq!((third.status, third.text()), (200, "attempt 3"));
        reply(server.post(path, "key", ""))
            .await
            .assert_replay_of(&third);
    }
}

/// While it looks at the crashed attempt, another owner takes that over, and a while later the record
/// is removed. What was found is then about nothing that is there any more.
async fn find_too_late(abandoned: Abandoned) -> Recovery {
    let store: FaultyStore = abandoned.extension().cloned().unwrap();
    let key = abandoned.record_key();
    let record = store.get(&key).await.unwrap().unwrap();
    let take_over = ClaimRequest {
        owner: Owner {
            key,
            token: Token::from_bytes([9; 16]),
        },
        fingerprint: record.fingerprint,
        operation: &record.operation,
        label: None,
        lease: LEASE,
        retention: record.expires_in,
        progress: &[],
        take_over: Some(abandoned.attempt()),
    };
    let taken = store.claim(&take_over).await.unwrap();
    assert!(matches!(
        taken,
        Claim::Acquired(Acquired { attempt: 2, .. })
    ));
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        store.remove(&key).await.unwrap();
    });
    find(abandoned).await
}

#[tokio::test(start_paused = true)]
async fn a_finding_does_not_settle_an_attempt_that_it_is_not_about() {
    let store = crashed("/overtaken").await;
    let builder = Idempotency::builder(store.clone()).extension(store);
    let local = Local::with(builder, routes());
    local.probe.open();
    let own = local.post("/overtaken", "key").await;
    assert_eq!(
        (own.status, own.text(), own.is_replay()),
        (200, "attempt 1 in run 1", false)
    );
}

#[idempotent(ttl = "1s")]
async fn short_lived(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

/// Makes an attempt of this record, which crashes.
async fn crash(crashes: &Crashes, request: &ClaimRequest<'_>, attempt: u32) {
    let claim = crashes.store.claim(request).await.unwrap();
    assert!(
        matches!(claim, Claim::Acquired(Acquired { attempt: it, .. }) if it == attempt),
        "{claim:?}"
    );
    crashes.clock.advance(LEASE);
}

/// Also the first attempt takes over, when a later one has crashed before it was done itself. Such a question that was
/// late freed the key of two crashed attempts, in the next life of that key.
#[tokio::test(start_paused = true)]
async fn a_late_take_over_of_the_first_attempt_frees_no_key() {
    let routes = || Router::new().route("/short-lived", post(short_lived));
    let crashes = Crashes::new();
    let store = &crashes.store;
    let stopped = crashes.stop_at(routes(), "/short-lived").await;
    let key = store.claimed();
    let record = store.get(&key).await.unwrap().unwrap();
    // A second attempt takes over, and crashes.
    crashes.take_over(key).await;
    crashes.clock.advance(LEASE);
    // The first one is only slow. It takes over in turn: that question is late, and asked again.
    store.script(Operation::Claim, Fault::Works);
    store.script(Operation::Claim, Fault::Late);
    stopped.process.probe.open();
    stopped.reply.await.unwrap();
    stopped.process.pending(0).await;
    let completed = store.get(&key).await.unwrap().unwrap().state;
    assert!(matches!(completed, RecordState::Completed(_)));
    // Its TTL ends, and two attempts of the next request crash.
    crashes.clock.advance(Duration::from_secs(2));
    let request = |take_over| ClaimRequest {
        owner: Owner {
            key,
            token: Token::random().unwrap(),
        },
        fingerprint: record.fingerprint,
        operation: &record.operation,
        label: None,
        lease: LEASE,
        retention: record.expires_in,
        progress: &[],
        take_over,
    };
    crash(&crashes, &request(None), 1).await;
    crash(&crashes, &request(Some(1)), 2).await;
    // The late question arrives.
    store.proceed();
    sleep(2 * LEASE).await;
    let record = store.get(&key).await.unwrap().expect("the record");
    assert!(matches!(record.state, RecordState::Abandoned), "{record:?}");
}
