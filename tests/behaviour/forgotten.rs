//! Unprotected routes are found, and protected ones are never taken for one.

use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::Response;
use axum::routing::{any, post};
use bytes::Bytes;
use futures_util::stream;
use http::request::Parts;
use http::{HeaderName, Method, StatusCode};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{ForgottenRoutesLayer, Idempotency, idempotent};
use tower::{Layer, ServiceExt};
use tracing::Level;

use crate::support::Log;

/// Rejects a request without the header.
struct Caller;

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        match parts.headers.contains_key("authorization") {
            true => Ok(Self),
            false => Err(StatusCode::UNAUTHORIZED),
        }
    }
}

#[idempotent]
async fn protected(_: Caller) -> &'static str {
    "protected"
}

#[idempotent(required = false, header = "X-Key")]
async fn optional() -> &'static str {
    "optional"
}

#[idempotent(name = "made", key = body.len())]
async fn made(body: String) -> String {
    body
}

#[idempotent]
async fn streamed() -> Response {
    let chunks = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"chunk"))]);
    Response::new(Body::from_stream(chunks))
}

async fn forgotten() -> &'static str {
    "ran"
}

async fn declined() -> StatusCode {
    StatusCode::PAYMENT_REQUIRED
}

fn idempotency() -> Idempotency {
    Idempotency::new(MemoryStore::new())
}

fn routes() -> Router<Idempotency> {
    let nested = Router::new()
        .route("/{order}/refund", post(forgotten).get(forgotten))
        .route("/{order}/pay", post(protected));
    Router::new()
        .nest("/orders/{tenant}", nested)
        .route("/optional", post(optional))
        .route("/made", post(made))
        .route("/streamed", post(streamed))
        .route("/declined", post(declined))
        .route("/any", any(forgotten))
}

fn app(layer: ForgottenRoutesLayer) -> Router {
    routes().layer(layer).with_state(idempotency())
}

async fn ask(app: &Router, method: Method, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).unwrap();
    let answer = app.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), 10_000).await;
    (status, String::from_utf8(body.unwrap().to_vec()).unwrap())
}

const KEY: (&str, &str) = ("idempotency-key", "secret-key");

async fn post_to(app: &Router, path: &str) -> (u16, String) {
    ask(app, Method::POST, path, &[KEY]).await
}

#[tokio::test]
async fn a_forgotten_route_is_logged_once_by_its_pattern_and_answers_as_ever() {
    let (log, _guard) = Log::begin(Level::WARN);
    let app = app(ForgottenRoutesLayer::new());
    for order in 1..=3 {
        let answer = post_to(&app, &format!("/orders/acme/{order}/refund?token=hidden")).await;
        assert_eq!(answer, (200, "ran".to_owned()));
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN"), "{lines:?}");
    assert!(lines[0].contains(r#"method="POST""#), "{lines:?}");
    assert!(
        lines[0].contains(r#"route="/orders/{tenant}/{order}/refund""#),
        "{lines:?}"
    );
    for hidden in ["secret-key", "acme", "hidden"] {
        assert!(!lines[0].contains(hidden), "{lines:?}");
    }
    // Another method of a route is another handler.
    for method in [Method::PUT, Method::PATCH, Method::PUT] {
        ask(&app, method, "/any", &[KEY]).await;
    }
    assert_eq!(log.lines().len(), 3);
}

#[tokio::test]
async fn a_protected_route_is_never_reported_or_refused() {
    let (log, _guard) = Log::begin(Level::WARN);
    let app = app(ForgottenRoutesLayer::new().refuse(&idempotency()));
    let signed_in = [KEY, ("authorization", "me")];
    for replayed in [false, true] {
        let _ = replayed;
        let paid = ask(&app, Method::POST, "/orders/acme/1/pay", &signed_in).await;
        assert_eq!(paid, (200, "protected".to_owned()));
        for (path, body) in [
            // Its key is in another header, and not required.
            ("/optional", "optional"),
            ("/made", ""),
            ("/streamed", "chunk"),
        ] {
            assert_eq!(post_to(&app, path).await, (200, body.to_owned()), "{path}");
        }
    }
    assert_eq!(log.lines(), Vec::<String>::new());
}

#[tokio::test]
async fn what_no_handler_has_answered_with_success_is_not_reported() {
    let (log, _guard) = Log::begin(Level::WARN);
    let app = app(ForgottenRoutesLayer::new().refuse(&idempotency()));
    // The caller is rejected before the protected argument.
    assert_eq!(post_to(&app, "/orders/acme/1/pay").await.0, 401);
    assert_eq!(post_to(&app, "/nowhere").await.0, 404);
    let wrong = ask(&app, Method::PUT, "/optional", &[KEY]).await;
    assert_eq!(wrong.0, 405);
    assert_eq!(post_to(&app, "/declined").await.0, 402);
    // Without a key, and where none is needed.
    assert_eq!(ask(&app, Method::POST, "/any", &[]).await.0, 200);
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        assert_eq!(ask(&app, method, "/any", &[KEY]).await.0, 200);
    }
    assert_eq!(log.lines(), Vec::<String>::new());
}

#[tokio::test]
async fn a_refusal_says_that_the_handler_has_run() {
    let (log, _guard) = Log::begin(Level::WARN);
    let idempotency = Idempotency::builder(MemoryStore::new())
        .problem_type_base("https://api.example.com/problems")
        .build();
    let app = app(ForgottenRoutesLayer::new().refuse(&idempotency));
    for _ in 0..2 {
        let (status, body) = post_to(&app, "/any").await;
        assert_eq!(status, 501);
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["code"], "unprotected-route");
        assert_eq!(
            problem["type"],
            "https://api.example.com/problems#unprotected-route"
        );
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("was carried out"), "{detail}");
    }
    assert_eq!(log.lines().len(), 1);
}

#[tokio::test]
async fn another_header_can_hold_the_key() {
    let (log, _guard) = Log::begin(Level::WARN);
    let header = HeaderName::from_static("x-key");
    let app = app(ForgottenRoutesLayer::new().header(header));
    post_to(&app, "/any").await;
    assert_eq!(log.lines().len(), 0);
    ask(&app, Method::POST, "/any", &[("x-key", "k")]).await;
    assert_eq!(log.lines().len(), 1);
}

#[tokio::test]
async fn a_fallback_that_succeeds_is_reported_without_its_path() {
    let (log, _guard) = Log::begin(Level::WARN);
    let app: Router = Router::new()
        .fallback(forgotten)
        .layer(ForgottenRoutesLayer::new());
    post_to(&app, "/orders/4711").await;
    post_to(&app, "/orders/4712").await;
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(r#"route="none""#), "{lines:?}");
}

#[tokio::test]
async fn routes_added_after_the_layer_are_exempt() {
    let (log, _guard) = Log::begin(Level::WARN);
    let app: Router = Router::new()
        .route("/forgotten", post(forgotten))
        .layer(ForgottenRoutesLayer::new())
        .route("/proxy", post(forgotten));
    post_to(&app, "/proxy").await;
    assert_eq!(log.lines().len(), 0);
    post_to(&app, "/forgotten").await;
    assert_eq!(log.lines().len(), 1);
}

#[tokio::test]
async fn two_layers_report_once_and_a_whole_router_can_be_wrapped() {
    let (log, _guard) = Log::begin(Level::WARN);
    let app = ForgottenRoutesLayer::new().layer(app(ForgottenRoutesLayer::new()));
    for (path, key, status) in [
        ("/any", "a", 200),
        ("/streamed", "b", 200),
        ("/no", "c", 404),
    ] {
        let request = http::Request::post(path).header("idempotency-key", key);
        let request = request.body(Body::empty()).unwrap();
        let answer = app.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), status);
    }
    assert_eq!(log.lines().len(), 1, "{:?}", log.lines());
}
