//! The tools for the tests of an application: each says what is true, and fails where it is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::FutureExt;
use http::{HeaderName, Request, StatusCode};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{Store, StoreErrorKind};
use idempotent_runtime::testing::{
    self, Answers, FaultyStore, Operation, Retry, crash_after_handler, crash_before_handler,
    leave_abandoned, retry,
};
use idempotent_runtime::{
    Attempt, Idempotency, Locator, RecordState, Recovery, Resolution, StepError, StoredResponse,
    idempotent,
};

use crate::support::{App, Probe};

#[idempotent(ttl_hours = 24)]
async fn pay(State(probe): State<Probe>, amount: String) -> String {
    let run = probe.run();
    tokio::time::sleep(Duration::from_millis(50)).await;
    format!("run {run} charged {amount}")
}

#[idempotent(replay_errors = "none")]
async fn decline(State(probe): State<Probe>) -> StatusCode {
    probe.run();
    StatusCode::BAD_GATEWAY
}

#[idempotent(on_abandoned = "retry")]
async fn again(State(probe): State<Probe>, attempt: Attempt) -> Result<String, StepError<String>> {
    let step = attempt.step("charge", async { Ok(probe.run()) }).await?;
    Ok(format!("attempt {} step {step}", attempt.number()))
}

#[idempotent]
async fn order(State(probe): State<Probe>, Json(amount): Json<u64>) -> String {
    probe.run();
    amount.to_string()
}

async fn forgotten(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

fn app_on(idempotency: &Idempotency) -> (Router, Probe) {
    let probe = Probe::default();
    let routes: Router<App> = Router::new()
        .route("/pay", post(pay))
        .route("/decline", post(decline))
        .route("/again", post(again))
        .route("/order", post(order))
        .route("/forgotten", post(forgotten));
    let state = App {
        idempotency: idempotency.clone(),
        probe: probe.clone(),
    };
    (routes.with_state(state), probe)
}

fn app() -> (Router, Probe) {
    app_on(&Idempotency::new(MemoryStore::new()))
}

fn request(path: &str) -> Request<Body> {
    let request = Request::post(path).header("idempotency-key", "key");
    request.body(Body::from("1000")).unwrap()
}

/// What the assertion says when it fails.
async fn complaint<S: testing::App<Body>>(retry: Retry<S, Body>, runs: usize) -> String {
    let failed = std::panic::AssertUnwindSafe(retry.assert_ran(runs)).catch_unwind();
    let panic = failed.await.expect_err("it fails");
    *panic.downcast::<String>().expect("a message")
}

fn statuses(answers: &Answers) -> Vec<u16> {
    let responses = answers.responses().iter();
    responses.map(|it| it.status().as_u16()).collect()
}

#[tokio::test(start_paused = true)]
async fn retries_run_once_and_the_clock_is_paused() {
    let (app, probe) = app();
    let answers = retry(&app, request("/pay"))
        .concurrently(16)
        .twice()
        .assert_ran(1)
        .await;
    assert_eq!((probe.runs(), answers.runs()), (1, 1));
    assert_eq!(
        statuses(&answers),
        [vec![200], vec![409; 15], vec![200; 2]].concat()
    );
    assert_eq!(answers.replays(), 2);
    assert_eq!(&answers.responses()[0].body()[..], b"run 1 charged 1000");
    // A day later it is another payment.
    tokio::time::advance(Duration::from_secs(24 * 60 * 60)).await;
    retry(&app, request("/pay")).assert_ran(1).await;
    assert_eq!(probe.runs(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_run_once_on_several_threads() {
    let (app, probe) = app();
    let sent = retry(&app, request("/pay")).concurrently(16);
    sent.twice().assert_ran(1).await;
    assert_eq!(probe.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn wrong_number_of_runs_fails_and_says_what_each_copy_got() {
    let (app, _) = app();
    let text = complaint(retry(&app, request("/pay")).concurrently(2).times(1), 2).await;
    for part in [
        "tests/behaviour/testing.rs",
        "should have run 2 times, and it ran 1 times",
        "copy 1: 200 OK, 18 bytes, the handler ran",
        "copy 2: 409 Conflict `in-flight`",
        "copy 3: 200 OK, a replay, 18 bytes",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("charged"), "{text}");
    // Each try of it runs.
    let text = complaint(retry(&app, request("/decline")).twice(), 1).await;
    assert!(text.contains("it ran 2 times"), "{text}");
    retry(&app, request("/decline")).twice().assert_ran(2).await;
}

#[tokio::test]
async fn rejection_is_no_run_and_a_forgotten_handler_is_no_protection() {
    let (app, probe) = app();
    // Not JSON by its content type: the handler never runs.
    let answers = retry(&app, request("/order")).twice().assert_ran(0).await;
    assert_eq!(statuses(&answers), [415, 415]);
    let text = complaint(retry(&app, request("/forgotten")), 1).await;
    assert!(text.contains("not under `#[idempotent]`"), "{text}");
    assert_eq!(probe.runs(), 1);
    let text = complaint(retry(&app, request("/nowhere")), 1).await;
    assert!(
        text.contains("404 Not Found, 0 bytes, before a protected"),
        "{text}"
    );
}

/// Puts something else into each answer.
fn numbered(app: Router, header: Option<HeaderName>) -> Router {
    let count = Arc::new(AtomicUsize::new(0));
    let number = move |response: Response| {
        let (count, header) = (count.fetch_add(1, Ordering::SeqCst), header.clone());
        async move {
            let (mut head, body) = response.into_parts();
            match header {
                Some(header) => {
                    head.headers.insert(header, count.into());
                    (head, body).into_response()
                }
                None => (head, format!("answer {count}")).into_response(),
            }
        }
    };
    app.layer(axum::middleware::map_response(number))
}

#[tokio::test]
async fn replays_that_differ_fail() {
    let id = HeaderName::from_static("x-request-id");
    let numbered_by = |header| numbered(app().0, header);
    let text = complaint(retry(&numbered_by(None), request("/pay")).twice(), 1).await;
    assert!(
        text.contains("the replay of copy 2 is not the answer of copy 1: the bodies, of 8 and 8 bytes, from byte 7 on"),
        "{text}"
    );
    let app = numbered_by(Some(id.clone()));
    let text = complaint(retry(&app, request("/pay")).times(3), 1).await;
    assert!(
        text.contains("copies 2 and 3 differ: the header `x-request-id`"),
        "{text}"
    );
    let sent = retry(&numbered_by(Some(id.clone())), request("/pay")).times(3);
    sent.ignoring(id).assert_ran(1).await;
    // A cookie is never stored.
    let cookie = HeaderName::from_static("set-cookie");
    let sent = retry(&numbered_by(Some(cookie)), request("/pay")).times(3);
    sent.assert_ran(1).await;
}

#[tokio::test(start_paused = true)]
async fn crash_before_the_handler_leaves_what_a_crash_leaves() {
    let idempotency = Idempotency::new(MemoryStore::new());
    let (app, probe) = app_on(&idempotency);
    crash_before_handler(&app, request("/pay")).await;
    assert_eq!(probe.runs(), 0);
    let answers = retry(&app, request("/pay")).assert_ran(0).await;
    assert_eq!(statuses(&answers), [409]);
    let body = String::from_utf8(answers.responses()[0].body().to_vec()).unwrap();
    assert!(body.contains("outcome-unknown"), "{body}");
    assert_eq!(idempotency.pending(), 0);
    crash_before_handler(&app, request("/again")).await;
    let answers = retry(&app, request("/again")).twice().assert_ran(1).await;
    assert_eq!(&answers.responses()[0].body()[..], b"attempt 2 step 1");
}

#[tokio::test(start_paused = true)]
async fn crash_after_the_handler_leaves_its_effect_and_its_steps() {
    let (app, probe) = app();
    crash_after_handler(&app, request("/pay")).await;
    assert_eq!(probe.runs(), 1);
    retry(&app, request("/pay")).twice().assert_ran(0).await;
    // It can crash again, and goes on after the step of the first attempt.
    for _ in 0..2 {
        crash_after_handler(&app, request("/again")).await;
    }
    let answers = retry(&app, request("/again")).twice().assert_ran(1).await;
    assert_eq!(&answers.responses()[0].body()[..], b"attempt 3 step 2");
    assert_eq!(probe.runs(), 2);
}

#[tokio::test]
async fn crash_that_did_not_happen_fails() {
    let (app, _) = app();
    for path in ["/forgotten", "/order", "/nowhere"] {
        let crash = std::panic::AssertUnwindSafe(crash_after_handler(&app, request(path)));
        let panic = crash.catch_unwind().await.expect_err("it fails");
        let text = panic.downcast::<String>().unwrap();
        assert!(text.contains("no attempt was abandoned"), "{path}: {text}");
    }
}

#[tokio::test]
async fn abandoned_record_is_left_for_an_operator() {
    let idempotency = Idempotency::builder(MemoryStore::new())
        .namespace("shop")
        .secret("secret")
        .previous_secrets(["older"])
        .build();
    let payment = Locator::new("POST /orders/{id}/pay", "key").scope("acme");
    leave_abandoned(&idempotency, &payment).await.unwrap();
    let found = idempotency.inspect(&payment).await.unwrap().unwrap();
    assert!(matches!(found.state, RecordState::Abandoned), "{found:?}");
    assert_eq!(&*found.operation, "POST /orders/{}/pay");
    assert!(leave_abandoned(&idempotency, &payment).await.is_err());
    let paid = StoredResponse::new(StatusCode::CREATED, http::HeaderMap::new(), "paid");
    let resolved = idempotency.resolve(&payment, Recovery::Replay(paid)).await;
    assert!(matches!(resolved, Ok(Resolution::Resolved)), "{resolved:?}");
    // By its record key as well.
    let key = Locator::by_record_key(idempotent_runtime::RecordKey::from_bytes([7; 32]));
    leave_abandoned(&idempotency, &key).await.unwrap();
    assert!(idempotency.inspect(&key).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn store_that_loses_the_reply_to_a_completion_still_runs_once() {
    let store = FaultyStore::new(MemoryStore::new());
    let (app, _) = app_on(&testing::builder(store.clone()).build());
    store.lose_replies(Operation::Complete, 1);
    retry(&app, request("/pay")).times(3).assert_ran(1).await;
    // It is asked again whether it has the response.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(store.calls(Operation::Complete), 2);
}

#[tokio::test(start_paused = true)]
async fn store_that_refuses_or_is_late_runs_nothing() {
    let store = FaultyStore::new(MemoryStore::new());
    let (app, _) = app_on(&testing::builder(store.clone()).build());
    store.refuse(Operation::Claim, 1);
    let answers = retry(&app, request("/pay")).times(2).assert_ran(1).await;
    assert_eq!(statuses(&answers), [503, 200]);
    store.refuse_everything();
    let answers = retry(&app, request("/pay")).times(2).assert_ran(0).await;
    assert_eq!(statuses(&answers), [503, 503]);
    let key = idempotent_runtime::RecordKey::from_bytes([7; 32]);
    let refused = store.remove(&key).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
    store.recover();
    store.delay(Duration::from_secs(3));
    let answers = retry(&app, request("/pay")).assert_ran(0).await;
    assert_eq!(statuses(&answers), [503]);
    store.delay(Duration::from_secs(1));
    assert_eq!(statuses(&retry(&app, request("/pay")).send().await), [200]);
}

#[tokio::test]
async fn manual_clock_ends_a_record() {
    let (store, clock) = testing::memory_on_manual_clock();
    let (app, _) = app_on(&Idempotency::new(store));
    retry(&app, request("/order-or-none")).assert_ran(0).await;
    retry(&app, request("/pay")).twice().assert_ran(1).await;
    clock.advance(Duration::from_secs(24 * 60 * 60) - Duration::from_millis(1));
    retry(&app, request("/pay")).assert_ran(0).await;
    clock.advance(Duration::from_millis(1));
    retry(&app, request("/pay")).assert_ran(1).await;
}

#[cfg(feature = "sqlite")]
mod sqlite;
