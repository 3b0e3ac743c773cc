//! Processes that digest requests differently, on one store: what one of them has begun, the other one
//! knows.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Attempt, Digest, Idempotency, ManualClock, idempotent};
use serde::Deserialize;

use crate::support::{
    App, FaultyStore, Local, Operation, Probe, Server, builder_on, reply, serve_with,
};

#[idempotent]
async fn pay(State(probe): State<Probe>, body: String) -> String {
    format!("{body} in run {}", probe.run())
}

#[idempotent(fingerprint = json)]
async fn by_json(State(probe): State<Probe>, body: String) -> String {
    format!("{} bytes in run {}", body.len(), probe.run())
}

#[derive(Deserialize)]
struct Payment {
    amount: u64,
}

#[idempotent(fingerprint = payment.amount)]
async fn by_fields(State(probe): State<Probe>, Json(payment): Json<Payment>) -> String {
    format!("{} in run {}", payment.amount, probe.run())
}

#[idempotent]
async fn slow(State(probe): State<Probe>, body: String) -> String {
    format!("{body} in run {}", probe.run_gated().await)
}

#[idempotent(in_flight = "wait", wait = "1h")]
async fn patient(State(probe): State<Probe>, body: String) -> String {
    format!("{body} in run {}", probe.run_gated().await)
}

#[idempotent(on_abandoned = "retry")]
async fn retried(attempt: Attempt, State(probe): State<Probe>, body: String) -> String {
    let run = probe.run_gated().await;
    format!("{body}: attempt {} in run {run}", attempt.number())
}

#[idempotent(name = "typed")]
async fn lenient(State(probe): State<Probe>, body: String) -> String {
    format!("{body} in run {}", probe.run())
}

#[idempotent(name = "typed")]
async fn strict(Json(_): Json<Payment>) -> &'static str {
    "never"
}

fn routes() -> Router<App> {
    Router::new()
        .route("/pay", post(pay))
        .route("/json", post(by_json))
        .route("/fields", post(by_fields))
        .route("/slow", post(slow))
        .route("/patient", post(patient))
        .route("/retried", post(retried))
}

/// Two processes on one store, before and after the digest was changed.
struct Change {
    before: Server,
    after: Server,
    clock: Arc<ManualClock>,
}

impl Change {
    async fn from(before: Digest, after: Digest) -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = FaultyStore::certain(&clock);
        let store = Arc::new(store);
        let serve = async |digest| {
            let builder = Idempotency::builder(Arc::clone(&store)).digest(digest);
            serve_with(builder, routes()).await
        };
        Self {
            before: serve(before).await,
            after: serve(after).await,
            clock,
        }
    }

    /// There and back again.
    async fn both() -> [Self; 2] {
        [
            Self::from(Digest::Sha256, Digest::Blake3).await,
            Self::from(Digest::Blake3, Digest::Sha256).await,
        ]
    }
}

#[tokio::test]
async fn retry_of_a_request_by_the_other_digest_is_a_replay() {
    for Change { before, after, .. } in Change::both().await {
        let first = reply(before.post("/pay", "key", "10")).await;
        for server in [&after, &before] {
            let retry = reply(server.post("/pay", "key", "10")).await;
            retry.assert_replay_of(&first);
        }
        assert_eq!((before.probe.runs(), after.probe.runs()), (1, 0));
    }
}

#[tokio::test]
async fn another_request_is_422_by_either_digest() {
    for Change { before, after, .. } in Change::both().await {
        reply(before.post("/pay", "key", "10")).await;
        for server in [&before, &after] {
            let other = reply(server.post("/pay", "key", "11")).await;
            other.assert_problem(422, "key-reused");
        }
    }
}

#[tokio::test]
async fn canonical_json_and_chosen_fields_are_compared_by_either_digest() {
    for Change { before, after, .. } in Change::both().await {
        let json = |server: &Server, path: &str, body: &str| {
            let request = server.post(path, "key", body);
            reply(request.header("content-type", "application/json"))
        };
        let first = json(&before, "/json", r#"{"amount": 10, "to": "a"}"#).await;
        let respelled = json(&after, "/json", r#"{"to":"a","amount":1e1}"#).await;
        respelled.assert_replay_of(&first);
        let other = json(&after, "/json", r#"{"amount": 11, "to": "a"}"#).await;
        other.assert_problem(422, "key-reused");

        let first = json(&before, "/fields", r#"{"amount":10,"note":"a"}"#).await;
        let noted = json(&after, "/fields", r#"{"amount":10,"note":"b"}"#).await;
        noted.assert_replay_of(&first);
        let other = json(&after, "/fields", r#"{"amount":11,"note":"a"}"#).await;
        other.assert_problem(422, "key-reused");
    }
}

#[tokio::test]
async fn duplicate_of_what_runs_by_the_other_digest_is_in_flight() {
    for Change { before, after, .. } in Change::both().await {
        let running = before.spawn(before.post("/slow", "key", "10"));
        before.probe.started().await;
        let duplicate = reply(after.post("/slow", "key", "10")).await;
        duplicate.assert_problem(409, "in-flight");
        let other = reply(after.post("/slow", "key", "11")).await;
        other.assert_problem(422, "key-reused");
        before.probe.open();
        let first = running.await.unwrap();
        let retry = reply(after.post("/slow", "key", "10")).await;
        retry.assert_replay_of(&first);
    }
}

#[tokio::test]
async fn who_waits_for_what_runs_by_the_other_digest_gets_its_answer() {
    for Change { before, after, .. } in Change::both().await {
        let running = before.spawn(before.post("/patient", "key", "10"));
        before.probe.started().await;
        let waiter = after.spawn(after.post("/patient", "key", "10"));
        // The answer is the same whether the waiter is there before or after the gate opens.
        before.probe.open();
        let first = running.await.unwrap();
        waiter.await.unwrap().assert_replay_of(&first);
        assert_eq!(after.probe.runs(), 0);
    }
}

#[tokio::test]
async fn crashed_attempt_by_the_other_digest_is_taken_over() {
    for Change {
        before,
        after,
        clock,
    } in Change::both().await
    {
        let stale = before.spawn(before.post("/retried", "key", "10"));
        before.probe.started().await;
        clock.advance(Duration::from_secs(30));
        after.probe.open();
        let second = reply(after.post("/retried", "key", "10")).await;
        assert_eq!(second.text(), "10: attempt 2 in run 1");
        before.probe.open();
        // Its claim is lost, and it answers with what is stored.
        stale.await.unwrap().assert_replay_of(&second);
        let retry = reply(before.post("/retried", "key", "10")).await;
        retry.assert_replay_of(&second);
    }
}

/// The extractor has become stricter with the release that changed the digest.
#[tokio::test]
async fn retry_that_the_extractor_refuses_is_a_replay_all_the_same() {
    let store = Arc::new(MemoryStore::new());
    let (before, after) = (Digest::Sha256, Digest::Blake3);
    let before = Idempotency::builder(Arc::clone(&store)).digest(before);
    let before = serve_with(before, Router::new().route("/", post(lenient))).await;
    let after = Idempotency::builder(store).digest(after);
    let after = serve_with(after, Router::new().route("/", post(strict))).await;
    let post = |server: &Server, body: &str| {
        let request = server.post("/", "key", body);
        reply(request.header("content-type", "application/json"))
    };
    let first = post(&before, "ten").await;
    assert_eq!(first.status, 200);
    post(&after, "ten").await.assert_replay_of(&first);
    let other = post(&after, "eleven").await;
    assert_eq!((other.status, other.is_replay()), (400, false));
}

/// A request that is what it seems is asked for once.
#[tokio::test]
async fn only_a_mismatch_is_asked_for_twice() {
    let store = FaultyStore::new(MemoryStore::new());
    for digest in [Digest::Sha256, Digest::Blake3] {
        let builder = builder_on(store.clone()).digest(digest);
        let key = if digest == Digest::Sha256 { "a" } else { "b" };
        let local = Local::with(builder, routes());
        let claims = async |path| {
            let before = store.calls(Operation::Claim);
            let reply = local.post(path, key).await;
            (reply.status, store.calls(Operation::Claim) - before)
        };
        assert_eq!(claims("/pay").await, (200, 1), "first");
        assert_eq!(claims("/pay").await, (200, 1), "replay");
        assert_eq!(claims("/pay?other").await, (422, 2), "another request");
    }
}
