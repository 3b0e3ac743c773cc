//! What becomes of a key whose attempt is gone.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use idempotent_runtime::{
    Abandoned, Attempt, Idempotency, ManualClock, Recovery, StoredResponse, idempotent,
};

use crate::support::{
    App, FaultyStore, Local, Probe, Server, reply, serve_on_manual_clock, serve_with,
};

const LEASE: Duration = Duration::from_secs(30);

#[idempotent]
async fn reject(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

#[idempotent(on_abandoned = "retry")]
async fn retry(attempt: Attempt, State(probe): State<Probe>) -> String {
    let run = probe.run_gated().await;
    format!("attempt {} in run {run}", attempt.number())
}

#[idempotent(on_abandoned = look, name = "recovered")]
async fn recover(attempt: Attempt, State(probe): State<Probe>, body: String) -> String {
    let run = probe.run_gated().await;
    format!("{body}: attempt {} in run {run}", attempt.number())
}

/// What the recovery function is to find, and what it was asked.
#[derive(Clone, Default)]
struct Ledger {
    finding: Arc<std::sync::Mutex<&'static str>>,
    asked: Arc<std::sync::Mutex<Vec<String>>>,
}

async fn look(abandoned: Abandoned) -> Recovery {
    let ledger: &Ledger = abandoned.extension().unwrap();
    ledger.asked.lock().unwrap().push(format!(
        "{} {} {} {}",
        abandoned.operation(),
        abandoned.key().as_str(),
        abandoned.attempt(),
        abandoned.age().as_secs(),
    ));
    let finding = *ledger.finding.lock().unwrap();
    match finding {
        "done" => Recovery::Replay(StoredResponse::new(
            http::StatusCode::CREATED,
            http::HeaderMap::new(),
            "found",
        )),
        "not done" => Recovery::Retry,
        "panic" => panic!("the ledger is gone"),
        _ => Recovery::Unknown,
    }
}

fn routes() -> Router<App> {
    Router::new()
        .route("/reject", post(reject))
        .route("/retry", post(retry))
        .route("/recover", post(recover))
}

/// Begins a request, and lets its lease end while it is running: to everybody else it looks as if
/// its process had stopped.
async fn stalled(
    server: &Server,
    clock: &ManualClock,
    path: &str,
) -> tokio::task::JoinHandle<crate::support::Reply> {
    let running = server.spawn(server.post(path, "key", "10"));
    server.probe.started().await;
    clock.advance(LEASE);
    running
}

#[tokio::test]
async fn an_abandoned_key_is_refused_by_default() {
    let (server, clock) = serve_on_manual_clock(routes()).await;
    let stalled = stalled(&server, &clock, "/reject").await;
    let duplicate = reply(server.post("/reject", "key", "10")).await;
    duplicate.assert_problem(409, "outcome-unknown");
    assert_eq!(duplicate.header("retry-after"), None);
    reply(server.post("/reject", "key", "11"))
        .await
        .assert_problem(422, "key-reused");

    // It was only slow: no other attempt has taken its claim, so its answer counts.
    server.probe.open();
    let first = stalled.await.unwrap();
    assert_eq!((first.status, first.is_replay()), (200, false));
    reply(server.post("/reject", "key", "10"))
        .await
        .assert_replay_of(&first);
    assert_eq!(server.probe.runs(), 1);
}

#[tokio::test]
async fn a_stale_owner_changes_nothing_and_answers_with_what_is_stored() {
    let (server, clock) = serve_on_manual_clock(routes()).await;
    let stale = stalled(&server, &clock, "/retry").await;
    let second = server.spawn(server.post("/retry", "key", "10"));
    server.probe.started().await;

    // Both are running. Permits go out in order: the stale owner asked first and finishes first,
    // finds its claim taken by an attempt that is still running, and may not answer on its own.
    server.probe.open();
    stale.await.unwrap().assert_problem(409, "in-flight");
    server.probe.open();
    let second = second.await.unwrap();
    assert_eq!(
        (second.text(), second.is_replay()),
        ("attempt 2 in run 2", false)
    );
    reply(server.post("/retry", "key", "10"))
        .await
        .assert_replay_of(&second);
}

#[idempotent(on_abandoned = "retry")]
async fn slow_at_first(attempt: Attempt, State(probe): State<Probe>) -> String {
    if attempt.number() == 1 {
        probe.run_gated().await;
    }
    format!("attempt {}", attempt.number())
}

#[tokio::test]
async fn a_stale_owner_that_comes_last_replays_the_stored_answer() {
    let (server, clock) =
        serve_on_manual_clock(Router::new().route("/", post(slow_at_first))).await;
    let stale = stalled(&server, &clock, "/").await;
    let second = reply(server.post("/", "key", "10")).await;
    assert_eq!((second.text(), second.is_replay()), ("attempt 2", false));
    server.probe.open();
    stale.await.unwrap().assert_replay_of(&second);
    reply(server.post("/", "key", "10"))
        .await
        .assert_replay_of(&second);
}

async fn recovering() -> (Server, Arc<ManualClock>, Ledger) {
    let clock = Arc::new(ManualClock::new());
    let ledger = Ledger::default();
    let store = FaultyStore::certain(&clock);
    let builder = Idempotency::builder(store).extension(ledger.clone());
    (serve_with(builder, routes()).await, clock, ledger)
}

#[tokio::test]
async fn a_recovery_function_that_finds_the_effect_settles_the_key() {
    let (server, clock, ledger) = recovering().await;
    let stale = stalled(&server, &clock, "/recover").await;

    *ledger.finding.lock().unwrap() = "unknown";
    reply(server.post("/recover", "key", "10"))
        .await
        .assert_problem(409, "outcome-unknown");
    *ledger.finding.lock().unwrap() = "panic";
    reply(server.post("/recover", "key", "10"))
        .await
        .assert_problem(409, "outcome-unknown");
    *ledger.finding.lock().unwrap() = "done";
    for _ in 0..2 {
        let found = reply(server.post("/recover", "key", "10")).await;
        assert_eq!(
            (found.status, found.text(), found.is_replay()),
            (201, "found", true)
        );
    }
    assert_eq!(*ledger.asked.lock().unwrap(), vec!["recovered key 1 30"; 3]);

    server.probe.open();
    let stale = stale.await.unwrap();
    assert_eq!(
        (stale.status, stale.text(), stale.is_replay()),
        (201, "found", true)
    );
    assert_eq!(server.probe.runs(), 1);
}

#[tokio::test]
async fn a_recovery_function_that_finds_nothing_runs_the_handler_again() {
    let (server, clock, ledger) = recovering().await;
    let stale = stalled(&server, &clock, "/recover").await;
    stale.abort();
    *ledger.finding.lock().unwrap() = "not done";
    let second = server.spawn(server.post("/recover", "key", "10"));
    server.probe.started().await;
    server.probe.open();
    server.probe.open();
    let second = second.await.unwrap();
    assert!(
        second.text().starts_with("10: attempt 2 in run "),
        "{}",
        second.text()
    );
    reply(server.post("/recover", "key", "10"))
        .await
        .assert_replay_of(&second);
}

#[idempotent(on_abandoned = done_without_content)]
async fn delete(State(probe): State<Probe>) -> http::StatusCode {
    probe.run_gated().await;
    http::StatusCode::NO_CONTENT
}

async fn done_without_content(abandoned: Abandoned) -> Recovery {
    let is_kept: bool = *abandoned.extension().unwrap();
    // As it may come from an archive of answers.
    let mut headers = http::HeaderMap::new();
    headers.insert("content-length", http::HeaderValue::from_static("0"));
    headers.insert("x-found", http::HeaderValue::from_static("yes"));
    let status = http::StatusCode::NO_CONTENT;
    Recovery::Replay(if is_kept {
        StoredResponse::new(status, headers, "")
    } else {
        StoredResponse::tombstone(status, headers)
    })
}

/// In process, because hyper would repair over HTTP/1.1 what is wrong here.
#[tokio::test]
async fn a_recovered_204_has_neither_length_nor_body() {
    for is_kept in [true, false] {
        let clock = Arc::new(ManualClock::new());
        let store = FaultyStore::certain(&clock);
        let builder = Idempotency::builder(store).extension(is_kept);
        let local = Local::with(builder, Router::new().route("/", post(delete)));
        let stalled = local.spawn("/", "key");
        local.probe.started().await;
        clock.advance(LEASE);
        for _ in 0..2 {
            let found = local.post("/", "key").await;
            assert_eq!((found.status, found.is_replay()), (204, true));
            assert_eq!(found.header("x-found"), Some("yes"));
            assert_eq!(found.header("content-length"), None, "{is_kept}: {found:?}");
            assert!(found.body.is_empty(), "{is_kept}: {found:?}");
        }
        local.probe.open();
        assert_eq!(stalled.await.unwrap().status, 204);
    }
}
