//! What the handler answers, fails with or panics with, and what is kept of it.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Full};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Attempt, Release, idempotent};

use crate::support::{App, Local, Probe, reply, serve};

fn status(probe: &Probe, code: u16) -> (StatusCode, String) {
    (
        StatusCode::from_u16(code).unwrap(),
        format!("run {}", probe.run()),
    )
}

#[idempotent]
async fn all(State(probe): State<Probe>, Path(code): Path<u16>) -> (StatusCode, String) {
    status(&probe, code)
}

#[idempotent(replay_errors = "4xx")]
async fn client(State(probe): State<Probe>, Path(code): Path<u16>) -> (StatusCode, String) {
    status(&probe, code)
}

#[idempotent(replay_errors = "none")]
async fn none(State(probe): State<Probe>, Path(code): Path<u16>) -> (StatusCode, String) {
    status(&probe, code)
}

#[idempotent]
async fn panic_at_once(State(probe): State<Probe>) -> String {
    panic!("card 4242 in run {}", probe.run());
}

#[idempotent]
async fn panic_later(State(probe): State<Probe>) -> String {
    let run = probe.run_gated().await;
    panic!("card 4242 in run {run}");
}

#[idempotent(replay_errors = "4xx")]
async fn panic_unstored(State(probe): State<Probe>) -> String {
    panic!("card 4242 in run {}", probe.run());
}

#[idempotent]
async fn refused(
    State(probe): State<Probe>,
) -> Result<String, Release<(StatusCode, &'static str)>> {
    match probe.run() {
        1 => Err(Release((
            StatusCode::SERVICE_UNAVAILABLE,
            "nothing happened",
        ))),
        run => Ok(run.to_string()),
    }
}

#[idempotent(max_response_bytes = 1000)]
async fn large(State(probe): State<Probe>, Path(bytes): Path<usize>) -> Response {
    probe.run();
    (
        StatusCode::CREATED,
        [("content-language", "en"), ("x-kept", "yes")],
        "x".repeat(bytes),
    )
        .into_response()
}

#[idempotent]
async fn attempt(first: Attempt, State(probe): State<Probe>, last: Attempt) -> String {
    probe.run();
    assert!(first.is_protected() && last.is_protected());
    format!("{} {}", first.number(), last.number())
}

#[idempotent(required = false)]
async fn optional(attempt: Attempt) -> String {
    format!("{} {}", attempt.is_protected(), attempt.number())
}

/// A body of four bytes, with trailers.
fn with_trailers(
    trailers: impl Future<Output = Option<Result<HeaderMap, Infallible>>> + Send + 'static,
) -> Response {
    Response::new(Body::new(Full::from("body").with_trailers(trailers)))
}

#[idempotent]
async fn panic_in_body(State(probe): State<Probe>) -> Response {
    probe.run();
    with_trailers(async { panic!("card 4242 behind the body") })
}

#[idempotent]
async fn trailers(State(probe): State<Probe>) -> Response {
    probe.run();
    let sum = HeaderValue::from_static("1");
    with_trailers(async { Some(Ok(HeaderMap::from_iter([(SUM, sum)]))) })
}

const SUM: HeaderName = HeaderName::from_static("x-sum");

fn routes() -> Router<App> {
    Router::new()
        .route("/all/{code}", post(all))
        .route("/4xx/{code}", post(client))
        .route("/none/{code}", post(none))
        .route("/panic/at-once", post(panic_at_once))
        .route("/panic/later", post(panic_later))
        .route("/panic/unstored", post(panic_unstored))
        .route("/panic/in-body", post(panic_in_body))
        .route("/trailers", post(trailers))
        .route("/refused", post(refused))
        .route("/large/{bytes}", post(large))
        .route("/attempt", post(attempt))
        .route("/optional", post(optional))
}

#[tokio::test]
async fn failures_are_stored_by_policy() {
    let server = serve(routes()).await;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let client = client.build().unwrap();
    let cases = [
        ("all", [true, true, true, true]),
        ("4xx", [true, true, true, false]),
        ("none", [true, true, false, false]),
    ];
    for (policy, stored) in cases {
        for (code, stored) in [200, 302, 404, 503].into_iter().zip(stored) {
            let path = format!("/{policy}/{code}");
            let request = || {
                let url = format!("http://{}{path}", server.address);
                client
                    .post(url)
                    .header("idempotency-key", format!("{policy}-{code}"))
            };
            let first = reply(request()).await;
            let second = reply(request()).await;
            assert_eq!((first.status, second.status), (code, code), "{path}");
            assert_eq!(second.is_replay(), stored, "{path}");
            assert_eq!(first.body == second.body, stored, "{path}");
        }
    }
}

#[tokio::test]
async fn a_panic_is_a_stored_500_that_leaks_nothing() {
    let server = serve(routes()).await;
    for path in ["/panic/at-once", "/panic/later", "/panic/in-body"] {
        server.probe.open();
        let first = reply(server.post(path, "key", "")).await;
        first.assert_problem(500, "handler-failed");
        assert!(!first.text().contains("4242"), "{}", first.text());
        reply(server.post(path, "key", ""))
            .await
            .assert_replay_of(&first);
    }
    assert_eq!(server.probe.runs(), 3);
}

/// In process, because a client that reads trailers is rare.
#[tokio::test]
async fn trailers_reach_the_first_client_and_are_replayed() {
    let local = Local::new(MemoryStore::new(), routes());
    for _ in 0..2 {
        let body = local.response("/trailers", "key").await.into_body();
        let body = body.collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()[SUM], "1");
        assert_eq!(body.to_bytes(), "body");
    }
    assert_eq!(local.probe.runs(), 1);
}

#[tokio::test]
async fn a_panic_frees_the_key_where_server_errors_are_not_stored() {
    let server = serve(routes()).await;
    for run in 1..=2 {
        let answer = reply(server.post("/panic/unstored", "key", "")).await;
        answer.assert_problem(500, "handler-failed");
        assert_eq!((answer.is_replay(), server.probe.runs()), (false, run));
    }
}

#[tokio::test]
async fn a_handler_can_say_that_nothing_happened() {
    let server = serve(routes()).await;
    let refused = reply(server.post("/refused", "key", "")).await;
    assert_eq!((refused.status, refused.text()), (503, "nothing happened"));
    assert!(server.stored_nothing());
    let done = reply(server.post("/refused", "key", "")).await;
    assert_eq!(
        (done.status, done.text(), done.is_replay()),
        (200, "2", false)
    );
    reply(server.post("/refused", "key", ""))
        .await
        .assert_replay_of(&done);
}

#[tokio::test]
async fn a_response_over_the_limit_is_not_run_again() {
    let server = serve(routes()).await;
    let first = reply(server.post("/large/1001", "key", "")).await;
    assert_eq!(
        (first.status, first.body.len()),
        (201, 1001),
        "the first answer is whole"
    );
    let replay = reply(server.post("/large/1001", "key", "")).await;
    assert!(replay.is_replay());
    replay.assert_problem(201, "response-not-retained");
    assert_eq!(replay.header("x-kept"), Some("yes"));
    assert_eq!(
        replay.header("content-language"),
        None,
        "it described the body"
    );
    assert_eq!(server.probe.runs(), 1);

    let first = reply(server.post("/large/1000", "fits", "")).await;
    reply(server.post("/large/1000", "fits", ""))
        .await
        .assert_replay_of(&first);
}

#[tokio::test]
async fn a_handler_can_ask_for_its_attempt() {
    let server = serve(routes()).await;
    assert_eq!(
        reply(server.post("/attempt", "key", "")).await.text(),
        "1 1"
    );
    assert_eq!(
        reply(server.post_without_key("/optional")).await.text(),
        "false 1"
    );
    assert_eq!(
        reply(server.post("/optional", "key", "")).await.text(),
        "true 1"
    );
}
