//! The last argument: what a replay spares it, and what it may not.

use std::cell::Cell;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request, State};
use axum::routing::post;
use axum::{Json, RequestExt, Router};
use http::StatusCode;
use idempotent_runtime::store::ReplayCache;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Attempt, Idempotency, idempotent};
use serde::{Deserialize, Deserializer};
use tower::ServiceExt;

use crate::support::{
    App, FaultyStore, Local, Probe, Server, builder_on, reply, serve, serve_with,
};

thread_local! {
    /// How often a [`Counted`] was parsed. Each test has a thread of its own, and its server too.
    static PARSED: Cell<usize> = const { Cell::new(0) };
}

struct Counted(u64);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PARSED.set(PARSED.get() + 1);
        u64::deserialize(deserializer).map(Self)
    }
}

#[idempotent]
async fn pay(State(probe): State<Probe>, Json(Counted(amount)): Json<Counted>) -> String {
    format!("{amount} in run {}", probe.run())
}

#[idempotent(fingerprint = amount.0)]
async fn pay_by_amount(State(probe): State<Probe>, Json(amount): Json<Counted>) -> String {
    format!("{} in run {}", amount.0, probe.run())
}

/// As [`Json`], to all appearances; who asks must say the word, and it says so as `Json` would.
struct Guarded(u64);

impl FromRequest<App> for Guarded {
    type Rejection = (StatusCode, &'static str);

    async fn from_request(request: Request, state: &App) -> Result<Self, Self::Rejection> {
        let is_friend = request.headers().contains_key("authorization");
        let Json(amount) = Json::from_request(request, state)
            .await
            .map_err(|_| (StatusCode::BAD_REQUEST, "no number"))?;
        if is_friend {
            Ok(Self(amount))
        } else {
            Err((StatusCode::UNAUTHORIZED, "not a friend"))
        }
    }
}

#[idempotent]
async fn guarded(State(probe): State<Probe>, Guarded(amount): Guarded) -> String {
    format!("{amount} in run {}", probe.run())
}

/// Rejects as `Json` does, and asks for more than its content.
struct Observed {
    attempt: Attempt,
    amount: u64,
}

impl FromRequest<App> for Observed {
    type Rejection = JsonRejection;

    async fn from_request(mut request: Request, state: &App) -> Result<Self, JsonRejection> {
        let Ok(attempt) = request.extract_parts::<Attempt>().await;
        let Json(amount) = Json::from_request(request, state).await?;
        Ok(Self { attempt, amount })
    }
}

#[idempotent]
async fn observed(observed: Observed) -> String {
    let Observed { attempt, amount } = observed;
    format!("{amount}, protected: {}", attempt.is_protected())
}

#[idempotent]
async fn attempt_first(attempt: Attempt, Json(amount): Json<u64>) -> String {
    format!("{amount}, protected: {}", attempt.is_protected())
}

#[idempotent]
async fn any_body(State(probe): State<Probe>, body: Bytes) -> String {
    format!("{} bytes in run {}", body.len(), probe.run())
}

fn routes() -> Router<App> {
    Router::new()
        .route("/pay", post(pay))
        .route("/pay_by_amount", post(pay_by_amount))
        .route("/guarded", post(guarded))
        .route("/observed", post(observed))
        .route("/attempt_first", post(attempt_first))
        .route("/any_body", post(any_body))
}

fn json(server: &Server, path: &str, key: &str, body: &str) -> reqwest::RequestBuilder {
    server
        .post(path, key, body)
        .header("content-type", "application/json")
}

/// How often three deliveries of one request are parsed.
async fn parsed(server: &Server, path: &str) -> usize {
    let before = PARSED.get();
    let first = reply(json(server, path, "key", "10")).await;
    assert_eq!((first.status, first.text()), (200, "10 in run 1"));
    for _ in 0..2 {
        let replay = reply(json(server, path, "key", "10")).await;
        replay.assert_replay_of(&first);
    }
    PARSED.get() - before
}

#[tokio::test]
async fn json_is_not_parsed_for_a_replay_from_memory() {
    assert_eq!(parsed(&serve(routes()).await, "/pay").await, 1);
}

#[tokio::test]
async fn json_is_parsed_for_a_replay_that_has_to_be_fetched() {
    let store = FaultyStore::new(MemoryStore::new());
    let builder = builder_on(store).replay_cache(ReplayCache::new());
    let server = serve_with(builder, routes()).await;
    assert_eq!(parsed(&server, "/pay").await, 3);
    // By now it is in the replay cache.
    let before = PARSED.get();
    assert!(reply(json(&server, "/pay", "key", "10")).await.is_replay());
    assert_eq!(PARSED.get(), before);
}

#[tokio::test]
async fn json_is_parsed_where_an_expression_asks_for_it() {
    assert_eq!(parsed(&serve(routes()).await, "/pay_by_amount").await, 3);
}

#[tokio::test]
async fn malformed_json_is_refused_whatever_else_its_key_has_done() {
    let server = serve(routes()).await;
    let first = reply(json(&server, "/pay", "key", "10")).await;
    for (key, body, status) in [
        ("key", "ten", 400),
        ("other", "ten", 400),
        ("key", "11", 422),
    ] {
        let refused = reply(json(&server, "/pay", key, body)).await;
        assert_eq!(refused.status, status, "{key} {body}: {refused:?}");
        assert!(!refused.is_replay());
    }
    let replay = reply(json(&server, "/pay", "key", "10")).await;
    replay.assert_replay_of(&first);
    assert_eq!(
        reply(json(&server, "/pay", "other", "12")).await.status,
        200
    );
}

#[tokio::test]
async fn extractor_with_rejections_of_its_own_is_asked_before_each_replay() {
    let server = serve(routes()).await;
    let friends = || json(&server, "/guarded", "key", "10").header("authorization", "friend");
    let first = reply(friends()).await;
    assert_eq!(first.status, 200);
    let stranger = reply(json(&server, "/guarded", "key", "10")).await;
    assert_eq!((stranger.status, stranger.text()), (401, "not a friend"));
    reply(friends()).await.assert_replay_of(&first);
}

#[tokio::test]
async fn attempt_is_that_of_the_run_wherever_it_is_asked_for() {
    let server = serve(routes()).await;
    for path in ["/observed", "/attempt_first"] {
        let first = reply(json(&server, path, path, "10")).await;
        assert_eq!(first.text(), "10, protected: true", "{path}");
    }
}

#[tokio::test]
async fn any_other_extractor_of_a_body_is_replayed_as_well() {
    let server = serve(routes()).await;
    let first = reply(server.post("/any_body", "key", "10")).await;
    assert_eq!(first.text(), "2 bytes in run 1");
    let replay = reply(server.post("/any_body", "key", "10")).await;
    replay.assert_replay_of(&first);
}

#[tokio::test]
async fn replay_is_found_while_the_application_shuts_down() {
    let Local {
        router,
        idempotency,
        ..
    } = Local::with(Idempotency::builder(MemoryStore::new()), routes());
    let request = || {
        Request::post("/pay")
            .header("idempotency-key", "key")
            .header("content-type", "application/json")
            .body(Body::from("10"))
            .unwrap()
    };
    let call = async || {
        let router = router.clone();
        router.oneshot(request()).await.unwrap()
    };
    assert_eq!(call().await.status(), 200);
    assert_eq!(idempotency.shutdown(Duration::ZERO).await, 0);
    let replay = call().await;
    assert_eq!(replay.status(), 200);
    assert_eq!(replay.headers()["idempotent-replayed"], "true");
}

/// A type with a lifetime in it, as channels of static strings have, compiles as any other.
#[idempotent]
async fn fed(
    feed: axum::Extension<std::sync::Arc<std::sync::Mutex<Option<&'static str>>>>,
) -> String {
    feed.lock().unwrap().take().unwrap_or("nothing").to_owned()
}

#[tokio::test]
async fn an_argument_may_have_a_lifetime_in_its_type() {
    let feed = std::sync::Arc::new(std::sync::Mutex::new(Some("once")));
    let routes = Router::new()
        .route("/", post(fed))
        .layer(axum::Extension(feed));
    let server = serve(routes).await;
    for _ in 0..2 {
        assert_eq!(reply(server.post("/", "key", "")).await.text(), "once");
    }
}

/// Rejects what is not signed as what cannot be read: with the only rejection that it has.
struct Signed(String);

impl<S: Send + Sync> axum::extract::FromRequest<S> for Signed {
    type Rejection = axum::extract::rejection::JsonRejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let is_signed = request.headers().contains_key("x-signature");
        let axum::Json(text) = axum::Json::from_request(request, state).await?;
        match is_signed {
            true => Ok(Self(text)),
            false => Err(axum::Json::<String>::from_bytes(b"").map(drop).unwrap_err()),
        }
    }
}

#[idempotent(name = "signed")]
async fn signed(State(probe): State<Probe>, Signed(text): Signed) -> String {
    format!("the account of {text}, run {}", probe.run())
}

/// It was taken for one about the content, and its caller was shown the response.
#[tokio::test]
async fn bad_signature_wins_over_a_replay_whatever_it_is_rejected_with() {
    let store = FaultyStore::new(MemoryStore::new());
    let routes: Router<App> = Router::new().route("/", post(signed));
    let local = Local::with(builder_on(store), routes);
    let request = || {
        let request = Request::post("/").header("idempotency-key", "key");
        request.header("content-type", "application/json")
    };
    let body = || axum::body::Body::from(r#""alice""#);
    let own = request()
        .header("x-signature", "good")
        .body(body())
        .unwrap();
    assert_eq!(local.send(own).await.status, 200);
    let foreign = local.send(request().body(body()).unwrap()).await;
    assert_eq!(
        foreign.status, 400,
        "shown to a caller without a signature: {foreign:?}"
    );
}
