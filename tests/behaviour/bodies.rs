//! Request bodies that do not arrive whole, or that the handler's extractor refuses.

use axum::extract::{
    DefaultBodyLimit, FromRequest, FromRequestParts, Multipart, Path, Request, State,
};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use http::request::Parts;
use idempotent_runtime::idempotent;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use crate::support::{App, Probe, raw, raw_stream, reply, serve};

#[derive(Deserialize)]
struct Payment {
    amount: u64,
}

#[idempotent]
async fn pay(State(probe): State<Probe>, Json(payment): Json<Payment>) -> String {
    format!("{} in run {}", payment.amount, probe.run())
}

#[idempotent]
async fn echo(State(probe): State<Probe>, request: Request) -> Response {
    probe.run();
    request.into_body().into_response()
}

#[idempotent]
async fn fields(State(probe): State<Probe>, mut form: Multipart) -> String {
    let mut names = Vec::new();
    while let Some(field) = form.next_field().await.unwrap() {
        names.push(format!(
            "{}={}",
            field.name().unwrap().to_owned(),
            field.text().await.unwrap()
        ));
    }
    format!("{} in run {}", names.join("&"), probe.run())
}

fn routes() -> Router<App> {
    Router::new()
        .route("/pay", post(pay))
        .route("/echo", post(echo))
        .route("/fields", post(fields))
        .layer(DefaultBodyLimit::max(1000))
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn malformed_json_is_the_extractors_rejection_and_the_key_stays_good() {
    let server = serve(routes()).await;
    let bad = reply(
        server
            .post("/pay", "key", "{\"amount\":")
            .header(JSON.0, JSON.1),
    )
    .await;
    assert_eq!(
        (bad.status, bad.code()),
        (400, None),
        "axum's own rejection: {bad:?}"
    );
    let bad = reply(
        server
            .post("/pay", "key", "{\"amount\":-1}")
            .header(JSON.0, JSON.1),
    )
    .await;
    assert_eq!(bad.status, 422);
    let bad = reply(server.post("/pay", "key", "{\"amount\":1}")).await;
    assert_eq!(bad.status, 415);
    assert!(server.stored_nothing());
    let good = reply(
        server
            .post("/pay", "key", "{\"amount\":1}")
            .header(JSON.0, JSON.1),
    )
    .await;
    assert_eq!((good.status, good.text()), (200, "1 in run 1"));
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_declared_or_chunked() {
    let server = serve(routes()).await;
    let big = "x".repeat(1001);
    reply(server.post("/echo", "key", "x".repeat(1000))).await;
    let declared = reply(server.post("/echo", "declared", big.clone())).await;
    assert_eq!(declared.status, 413);
    let chunked = format!(
        "POST /echo HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\nidempotency-key: chunked\r\n\
         transfer-encoding: chunked\r\n\r\n3e9\r\n{big}\r\n0\r\n\r\n"
    );
    let chunked = raw(server.address, chunked).await;
    assert_eq!(chunked.status_line(), b"HTTP/1.1 413 Payload Too Large");
    assert_eq!(server.probe.runs(), 1);
    for key in ["declared", "chunked"] {
        assert!(
            !reply(server.post("/echo", key, "small")).await.is_replay(),
            "nothing was stored"
        );
    }
}

#[tokio::test]
async fn a_body_cut_short_stores_nothing() {
    let server = serve(routes()).await;
    let cut = "POST /echo HTTP/1.1\r\nhost: example.com\r\nidempotency-key: key\r\n\
        content-length: 10\r\n\r\n12345";
    let mut stream = raw_stream(server.address, cut).await;
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer)
        .await
        .unwrap();
    assert!(server.stored_nothing());
    assert_eq!(server.probe.runs(), 0);
    let whole = reply(server.post("/echo", "key", "1234567890")).await;
    assert_eq!((whole.text(), whole.is_replay()), ("1234567890", false));
}

#[tokio::test]
async fn request_and_multipart_can_be_last() {
    let server = serve(routes()).await;
    let first = reply(server.post("/echo", "key", "body")).await;
    reply(server.post("/echo", "key", "body"))
        .await
        .assert_replay_of(&first);
    let form = || {
        let body = "--b\r\ncontent-disposition: form-data; name=\"amount\"\r\n\r\n10\r\n--b--\r\n";
        server
            .post("/fields", "key", body)
            .header("content-type", "multipart/form-data; boundary=b")
    };
    let first = reply(form()).await;
    assert_eq!(first.text(), "amount=10 in run 2");
    reply(form()).await.assert_replay_of(&first);
}

/// Refuses who does not say the word, and says so with the status in the path.
struct Authenticated;

impl<S: Send + Sync> FromRequestParts<S> for Authenticated {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, StatusCode> {
        let Path(status) = Path::<u16>::from_request_parts(parts, state).await.unwrap();
        match parts.headers.get("authorization") {
            Some(word) if word == "friend" => Ok(Self),
            _ => Err(StatusCode::from_u16(status).unwrap()),
        }
    }
}

#[idempotent]
async fn guarded_first(_: Authenticated, State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

#[idempotent]
async fn guarded_last(State(probe): State<Probe>, _: Authenticated) -> String {
    probe.run().to_string()
}

#[tokio::test]
async fn the_refusal_of_an_auth_extractor_wins_over_a_replay() {
    let routes = Router::new()
        .route("/first/{status}", post(guarded_first))
        .route("/last/{status}", post(guarded_last));
    let server = serve(routes).await;
    for path in [
        "/first/401",
        "/first/403",
        "/last/401",
        "/last/403",
        "/last/404",
        "/last/503",
        // Those that a content extractor answers as well: this one has not read the content.
        "/last/400",
        "/last/415",
        "/last/422",
    ] {
        // A path of its own is a request of its own, so it needs a key of its own.
        let first = reply(
            server
                .post(path, path, "")
                .header("authorization", "friend"),
        )
        .await;
        assert_eq!(first.status, 200);
        let stranger = reply(server.post(path, path, "")).await;
        assert!(
            path.ends_with(&stranger.status.to_string()),
            "{path}: {stranger:?}"
        );
        assert!(!stranger.is_replay());
        let again = reply(
            server
                .post(path, path, "")
                .header("authorization", "friend"),
        )
        .await;
        again.assert_replay_of(&first);
    }
}

/// Accepts a body only while the test says so.
struct Strict(String);

impl FromRequest<App> for Strict {
    type Rejection = (StatusCode, &'static str);

    async fn from_request(request: Request, state: &App) -> Result<Self, Self::Rejection> {
        let body = String::from_request(request, &()).await.unwrap();
        // Once the handler has run, the rules have changed.
        if state.probe.runs() > 0 {
            return Err((StatusCode::UNPROCESSABLE_ENTITY, "no longer valid"));
        }
        Ok(Self(body))
    }
}

#[idempotent]
async fn strict(State(probe): State<Probe>, Strict(body): Strict) -> String {
    format!("{body} in run {}", probe.run())
}

#[tokio::test]
async fn a_completed_request_is_replayed_even_if_its_body_would_be_refused_by_now() {
    let server = serve(Router::new().route("/", post(strict))).await;
    let first = reply(server.post("/", "key", "10")).await;
    reply(server.post("/", "key", "10"))
        .await
        .assert_replay_of(&first);
    for (key, body) in [("key", "11"), ("other", "10")] {
        let refused = reply(server.post("/", key, body)).await;
        assert_eq!(
            (refused.status, refused.text()),
            (422, "no longer valid"),
            "{key} {body}"
        );
    }
}
