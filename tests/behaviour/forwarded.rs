//! Protected handlers that ask other protected handlers of the process, with requests made of their own.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::StatusCode;
use http::request::Parts;
use http_body_util::BodyExt;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Attempt, Release, idempotent};
use tower::ServiceExt;

use crate::support::{App, Local, Probe, reply, serve};

/// The inner application's answer to a request of this path, key and body.
async fn asked(app: App, parts: &Parts, path: &str, key: Option<&str>, body: &str) -> Response {
    let inner: Router = Router::new()
        .route("/charge", post(charge))
        .route("/accounts/{id}", post(account))
        .route("/busy", post(busy))
        .with_state(app);
    let mut parts = parts.clone();
    parts.uri = path.parse().unwrap();
    parts.headers.remove("content-length");
    parts.headers.remove("idempotency-key");
    if let Some(key) = key {
        parts
            .headers
            .insert("idempotency-key", key.parse().unwrap());
    }
    let request = Request::from_parts(parts, Body::from(body.to_owned()));
    inner.oneshot(request).await.unwrap()
}

async fn text(response: Response) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[idempotent(name = "charge")]
async fn charge(State(_): State<App>, attempt: Attempt, _: String) -> String {
    format!(
        "{} {}",
        attempt.derived_key("charge"),
        attempt.record_key().unwrap()
    )
}

#[idempotent]
async fn account(State(probe): State<Probe>, Path(id): Path<u32>, _: String) -> String {
    format!("account {id}, run {}", probe.run())
}

#[idempotent(required = false)]
async fn busy(State(_): State<App>) -> Release<StatusCode> {
    Release(StatusCode::BAD_GATEWAY)
}

/// A provider takes the second charge for the first one otherwise.
#[tokio::test]
async fn each_request_has_derived_keys_of_its_own() {
    #[idempotent(name = "batch")]
    async fn batch(State(app): State<App>, own: Attempt, request: Request) -> Response {
        let (parts, _) = request.into_parts();
        let mut lines = format!(
            "{} {}\n",
            own.derived_key("charge"),
            own.record_key().unwrap()
        );
        for key in ["one", "two"] {
            let answer = asked(app.clone(), &parts, "/charge", Some(key), "").await;
            lines += &format!("{}\n", text(answer).await);
        }
        lines.into_response()
    }
    let server = serve(Router::new().route("/", post(batch))).await;
    let answer = reply(server.post("/", "key", "")).await;
    let answer = answer.text();
    let mut words: Vec<&str> = answer.split_whitespace().collect();
    assert_eq!(words.len(), 6, "{answer}");
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), 6, "{answer}");
}

/// They have one route, one key and one body, and came to the application by one path.
#[tokio::test]
async fn other_paths_are_other_requests() {
    #[idempotent(name = "both")]
    async fn both(State(app): State<App>, request: Request) -> Response {
        let (parts, _) = request.into_parts();
        let first = asked(app.clone(), &parts, "/accounts/1", Some("key"), "").await;
        let again = asked(app.clone(), &parts, "/accounts/1", Some("key"), "").await;
        let other = asked(app, &parts, "/accounts/2", Some("key"), "").await;
        let status = other.status();
        format!("{}; {}; {status}", text(first).await, text(again).await).into_response()
    }
    let server = serve(Router::new().route("/", post(both))).await;
    let answer = reply(server.post("/", "key", "")).await;
    assert_eq!(
        answer.text(),
        "account 1, run 1; account 1, run 1; 422 Unprocessable Entity"
    );
}

/// That the inner one has done nothing does not say so of the outer one.
#[tokio::test]
async fn a_release_is_about_the_handler_that_says_it() {
    #[idempotent(name = "outer")]
    async fn outer(
        State(probe): State<Probe>,
        State(app): State<App>,
        request: Request,
    ) -> Response {
        probe.run();
        let key = request.uri().query().map(str::to_owned);
        let (parts, _) = request.into_parts();
        asked(app, &parts, "/busy", key.as_deref(), "").await
    }
    let server = serve(Router::new().route("/", post(outer))).await;
    for (path, key) in [("/", "one"), ("/?inner", "two")] {
        let first = reply(server.post(path, key, "")).await;
        assert_eq!(first.status, 502, "{path}");
        let again = reply(server.post(path, key, "")).await;
        again.assert_replay_of(&first);
    }
}

/// A layer between two routers says by the caller whose account it is.
#[tokio::test]
async fn a_rewritten_path_is_another_request() {
    #[idempotent]
    async fn fallback(State(probe): State<Probe>, request: Request) -> String {
        format!("{}, run {}", request.uri().path(), probe.run())
    }
    fn rewritten(mut request: Request) -> Request {
        let user = request.headers()["x-user"].to_str().unwrap();
        let path = request
            .uri()
            .path()
            .replace("/me", &format!("/accounts/{user}"));
        *request.uri_mut() = path.parse().unwrap();
        request
    }
    let app = crate::support::Local::new(
        idempotent_runtime::store::memory::MemoryStore::new(),
        Router::new()
            .route("/accounts/{id}", post(account))
            .fallback(fallback),
    );
    let inner = tower::util::MapRequestLayer::new(rewritten);
    let inner = tower::Layer::layer(&inner, app.router.clone());
    let outer: Router = Router::new().fallback_service(inner);
    let ask = async |path: &str, user: &str| {
        let request = Request::post(path)
            .header("idempotency-key", "key")
            .header("x-user", user);
        let response = outer
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        (response.status().as_u16(), text(response).await)
    };
    assert_eq!(ask("/me", "1").await, (200, "account 1, run 1".to_owned()));
    assert_eq!(ask("/me", "2").await.0, 422);
    assert_eq!(ask("/me", "1").await, (200, "account 1, run 1".to_owned()));
    let first = ask("/me/else", "1").await;
    assert_eq!(first, (200, "/accounts/1/else, run 2".to_owned()));
    let other = ask("/me/else", "2").await;
    assert_eq!(other, (200, "/accounts/2/else, run 3".to_owned()));
}

/// The marks are about this key, and another service's are about another one.
#[tokio::test]
async fn only_a_replay_is_marked_as_one() {
    #[idempotent]
    async fn forwards(State(probe): State<Probe>) -> Release<impl IntoResponse> {
        probe.run();
        let marks = [
            "idempotent-replayed",
            "idempotency-degraded",
            "idempotency-status",
        ];
        let mut response = StatusCode::BAD_GATEWAY.into_response();
        for mark in marks {
            response
                .headers_mut()
                .insert(mark, http::HeaderValue::from_static("true"));
        }
        Release(response)
    }
    let server = serve(Router::new().route("/", post(forwards))).await;
    for run in 1..=2 {
        let answer = reply(server.post("/", "key", "")).await;
        assert_eq!((answer.status, server.probe.runs()), (502, run));
        let is_marked = |name: &http::HeaderName| name.as_str().starts_with("idempoten");
        assert!(!answer.headers.keys().any(is_marked), "{answer:?}");
    }
}

#[idempotent]
async fn nested_fallback(State(probe): State<Probe>, request: Request) -> String {
    format!("{}, run {}", request.uri().path(), probe.run())
}

/// A server waits for them over HTTP/2.
#[tokio::test]
async fn fallbacks_of_nested_routers_are_different_operations() {
    let routes = Router::<App>::new()
        .nest("/a", Router::new().fallback(nested_fallback))
        .nest("/b", Router::new().fallback(nested_fallback));
    let server = serve(routes).await;
    let first = reply(server.post("/a", "key", "")).await;
    assert_eq!(first.status, 200);
    let second = reply(server.post("/b", "key", "")).await;
    assert_eq!(second.status, 200, "{second:?}");
}

/// Also where what is left of the path is its end, as in a nested router.
#[tokio::test]
async fn a_path_that_is_shortened_is_another_request() {
    #[idempotent]
    async fn fallback(State(probe): State<Probe>, request: Request) -> String {
        format!("{}, run {}", request.uri().path(), probe.run())
    }
    fn rewritten(mut request: Request) -> Request {
        let account = request.headers()["x-account"].to_str().unwrap();
        let uri = account.parse().unwrap();
        *request.uri_mut() = uri;
        request
    }
    let app = Local::new(MemoryStore::new(), Router::new().fallback(fallback));
    let inner = tower::util::MapRequestLayer::new(rewritten);
    let inner = tower::Layer::layer(&inner, app.router.clone());
    let outer: Router = Router::new().fallback_service(inner);
    let mut answers = Vec::new();
    for account in ["/b", "/a/b"] {
        let request = Request::post("/a/b")
            .header("idempotency-key", "key")
            .header("x-account", account);
        let request = request.body(axum::body::Body::empty()).unwrap();
        let response = tower::ServiceExt::oneshot(outer.clone(), request)
            .await
            .unwrap();
        let status = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body())
            .await
            .unwrap();
        answers.push((status, String::from_utf8(body.to_bytes().to_vec()).unwrap()));
    }
    assert_eq!(answers[0], (200, "/b, run 1".to_owned()));
    assert_ne!(
        answers[1],
        (200, "/b, run 1".to_owned()),
        "the answer to another path"
    );
}
