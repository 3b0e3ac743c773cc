//! How a refusal looks.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Idempotency, ProblemCode, idempotent};

use crate::support::{App, Local, Log, Probe, reply, serve, serve_with};

#[idempotent]
async fn pay(State(probe): State<Probe>) -> String {
    probe.run_gated().await.to_string()
}

fn routes() -> Router<App> {
    Router::new().route("/pay", post(pay))
}

#[tokio::test]
async fn a_problem_has_every_member_of_rfc_9457_and_a_link() {
    let server = serve(routes()).await;
    let answer = reply(server.post_without_key("/pay")).await;
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let kind = problem["type"].as_str().unwrap();
    assert!(
        kind.starts_with("https://") && kind.ends_with("#missing-key"),
        "{kind}"
    );
    assert_eq!(problem["status"], 400);
    assert_eq!(problem["code"], "missing-key");
    assert_eq!(problem["title"], ProblemCode::MissingKey.title());
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|detail| !detail.is_empty())
    );
    let link = format!("<{kind}>; rel=\"describedby\"");
    assert_eq!(answer.header("link"), Some(link.as_str()));
}

#[tokio::test]
async fn the_application_can_set_where_problems_are_documented() {
    let url = "https://example.com/errors";
    let builder = Idempotency::builder(MemoryStore::new()).problem_type_base(url);
    let server = serve_with(builder, routes()).await;
    let answer = reply(server.post_without_key("/pay")).await;
    let link = "<https://example.com/errors#missing-key>; rel=\"describedby\"";
    assert_eq!(answer.header("link"), Some(link));
}

#[tokio::test]
async fn the_application_can_render_problems_itself() {
    let builder = Idempotency::builder(MemoryStore::new()).render_problems(|problem| {
        let retry = problem.retry_after_secs().unwrap_or_default();
        (
            problem.status(),
            format!("{} {retry} {}", problem.code(), problem.detail()),
        )
            .into_response()
    });
    let server = serve_with(builder, routes()).await;
    let missing = reply(server.post_without_key("/pay")).await;
    assert_eq!(missing.status, 400);
    assert!(
        missing.text().starts_with("missing-key 0 This operation"),
        "{}",
        missing.text()
    );

    let running = server.spawn(server.post("/pay", "key", ""));
    server.probe.started().await;
    let duplicate = reply(server.post("/pay", "key", "")).await;
    assert_eq!(
        (duplicate.status, duplicate.header("retry-after")),
        (409, Some("1"))
    );
    assert!(
        duplicate.text().starts_with("in-flight 1 "),
        "{}",
        duplicate.text()
    );
    server.probe.open();
    assert_eq!(running.await.unwrap().status, 200);
}

#[idempotent]
async fn panics(State(probe): State<Probe>) -> String {
    panic!("in run {}", probe.run());
}

#[tokio::test]
async fn a_renderer_that_panics_leaves_the_key_taken() {
    let builder =
        Idempotency::builder(MemoryStore::new()).render_problems(|problem| match problem.code() {
            ProblemCode::HandlerFailed => panic!("in a template"),
            _ => problem.title().into_response(),
        });
    let server = serve_with(builder, Router::new().route("/", post(panics))).await;
    let lost = server.post("/", "key", "").send().await;
    assert!(lost.is_err(), "{lost:?}");
    server.pending(0).await;
    let duplicate = reply(server.post("/", "key", "")).await;
    assert_eq!(duplicate.text(), ProblemCode::InFlight.title());
    assert_eq!(server.probe.runs(), 1);
}

#[idempotent(max_response_bytes = 3)]
async fn large_pdf(State(probe): State<Probe>) -> Response {
    probe.run();
    ([("content-type", "application/pdf")], "large").into_response()
}

#[tokio::test]
async fn a_problem_never_has_the_content_type_of_what_it_stands_for() {
    let builder = Idempotency::builder(MemoryStore::new())
        .render_problems(|_| Response::new("not kept".into()));
    let server = serve_with(builder, Router::new().route("/", post(large_pdf))).await;
    let first = reply(server.post("/", "key", "")).await;
    assert_eq!(first.header("content-type"), Some("application/pdf"));
    let replay = reply(server.post("/", "key", "")).await;
    assert_eq!((replay.text(), replay.is_replay()), ("not kept", true));
    assert_eq!(replay.header("content-type"), None);
}

#[test]
fn codes_are_distinct_and_say_their_status() {
    let codes: std::collections::HashSet<_> =
        ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes.len(), ProblemCode::ALL.len());
    for code in ProblemCode::ALL {
        assert!(
            code.as_str()
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        );
        assert!(!code.status().is_informational() && !code.status().is_redirection());
    }
}

/// It said that the handler had not run.
#[tokio::test]
async fn log_of_a_handler_that_failed_does_not_say_that_it_did_not_run() {
    #[idempotent]
    async fn panics(State(probe): State<Probe>) -> String {
        panic!("in run {}", probe.run());
    }
    let (log, guard) = Log::begin(tracing::Level::DEBUG);
    let local = Local::new(MemoryStore::new(), Router::new().route("/", post(panics)));
    local
        .post("/", "key")
        .await
        .assert_problem(500, "handler-failed");
    drop(guard);
    assert_eq!(local.probe.runs(), 1);
    let logged = log.text();
    assert!(logged.contains("handler panicked"), "{logged}");
    assert!(logged.contains("handler-failed"), "{logged}");
    assert!(!logged.contains("without running"), "{logged}");
}
