//! What an answer says of itself besides: extensions for layers, the application's own problems, traces, spans and logs.

use std::sync::Arc;

use axum::body::Body;
use http::Request;
use idempotent_runtime::observer::Outcome;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Answered, Locator, ProblemCode};

use crate::observed::{request, routes};
use crate::support::{Local, Log, builder_on};

/// The response of a layer's request, and what it says.
async fn answered(local: &Local, path: &str, key: &str) -> Option<Answered> {
    let response = local.response(path, key).await;
    response.extensions().get::<Answered>().cloned()
}

#[tokio::test]
async fn extension_says_operation_outcome_record_and_attempt_if_it_is_set() {
    let local = Local::new(MemoryStore::new(), routes());
    assert!(answered(&local, "/pay", "key").await.is_none());

    let builder = builder_on(MemoryStore::new()).answered_extension(true);
    let local = Local::with(builder, routes());
    let first = answered(&local, "/pay", "key").await.unwrap();
    assert_eq!(
        (&*first.operation, first.outcome),
        ("POST /pay", Outcome::Stored)
    );
    assert_eq!(first.attempt, Some(1));
    let again = answered(&local, "/pay", "key").await.unwrap();
    assert_eq!((again.outcome, again.attempt), (Outcome::Replayed, None));
    assert_eq!(again.record, first.record);
    assert!(first.record.is_some());
    let bad = answered(&local, "/pay", "bad key").await.unwrap();
    assert_eq!(bad.outcome, Outcome::Problem(ProblemCode::InvalidKey));
    assert_eq!(bad.record, None);
}

#[tokio::test]
async fn problem_code_is_an_extension_of_every_problem() {
    let local = Local::new(MemoryStore::new(), routes());
    let response = local.response("/pay", "bad key").await;
    let code = response.extensions().get::<ProblemCode>();
    assert_eq!(code, Some(&ProblemCode::InvalidKey));
}

/// A renderer of the application's own is told the operation, and can start from the default.
#[tokio::test]
async fn renderer_gets_the_operation_and_the_default_problem() {
    let builder = builder_on(MemoryStore::new()).render_problems(|problem| {
        let operation = problem.operation().unwrap_or("none").to_owned();
        let mut response = problem.default_response();
        let value = operation.parse().unwrap();
        response.headers_mut().insert("x-operation", value);
        response
    });
    let local = Local::with(builder, routes());
    let reply = local.post("/pay", "bad key").await;
    reply.assert_problem(400, "invalid-key");
    assert_eq!(reply.header("x-operation"), Some("POST /pay"));
    for _ in 0..2 {
        // The second is the first one's record.
        let reply = local.post("/panics", "key").await;
        reply.assert_problem(500, "handler-failed");
        assert_eq!(reply.header("x-operation"), Some("POST /panics"));
    }
}

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn traced(local: &Local, path: &str, key: &str, traceparent: &str) {
    let request = Request::post(path)
        .header("idempotency-key", key)
        .header("traceparent", traceparent);
    local.send(request.body(Body::empty()).unwrap()).await;
}

#[tokio::test]
async fn trace_context_of_the_attempt_is_kept_and_never_sent() {
    let store = Arc::new(MemoryStore::new());
    let local = Local::new(Arc::clone(&store), routes());
    traced(&local, "/optional", "key", TRACEPARENT).await;
    traced(&local, "/optional", "other", "not a traceparent CANARY").await;
    let locator = Locator::new("POST /optional", "key");
    let stored = async |locator: &Locator| {
        let found = local.idempotency.inspect(locator).await.unwrap().unwrap();
        match found.state {
            idempotent_runtime::RecordState::Completed(stored) => stored,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(stored(&locator).await.trace_context(), Some(TRACEPARENT));
    let other = Locator::new("POST /optional", "other");
    assert_eq!(stored(&other).await.trace_context(), None);
    let replay = local.post("/optional", "key").await;
    assert!(replay.header("idempotent-replayed").is_some());
    assert!(replay.header("traceparent").is_none());
}

#[tokio::test]
async fn span_of_the_request_and_the_log_say_what_became_of_it() {
    let (log, _guard) = Log::begin(tracing::Level::DEBUG);
    let local = Local::new(MemoryStore::new(), routes());
    traced(&local, "/pay", "CANARY-KEY", TRACEPARENT).await;
    let span = tracing::info_span!(
        "request",
        idempotency.operation = tracing::field::Empty,
        idempotency.outcome = tracing::field::Empty,
        idempotency.record = tracing::field::Empty,
        idempotency.attempt = tracing::field::Empty,
    );
    let again = request("/pay", "CANARY-KEY", "");
    tracing::Instrument::instrument(local.send(again), span).await;
    let logged = log.text();
    assert!(
        logged.contains("idempotency.outcome=\"replayed\""),
        "{logged}"
    );
    assert!(
        logged.contains("idempotency.operation=\"POST /pay\""),
        "{logged}"
    );
    assert!(logged.contains("idempotency.record="), "{logged}");
    assert!(
        logged.contains(&format!("first_traceparent=\"{TRACEPARENT}\"")),
        "{logged}"
    );
    assert!(!logged.contains("CANARY"), "{logged}");
}
