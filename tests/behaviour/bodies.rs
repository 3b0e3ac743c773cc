//! Request bodies that do not arrive whole, or that the handler's extractor refuses.

use axum::body::Body;
use axum::extract::{
    DefaultBodyLimit, FromRequest, FromRequestParts, Multipart, Path, RawForm, Request, State,
};
use axum::middleware::map_request;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Form, Json, Router};
use http::StatusCode;
use http::request::Parts;
use http_body_util::BodyExt;
use idempotent_runtime::idempotent;
use idempotent_runtime::store::memory::MemoryStore;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tower_http::limit::RequestBodyLimitLayer;

use crate::support::{App, FaultyStore, Probe, Server, raw, raw_stream, reply, serve, serve_on};

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

/// A body in a body: its errors are in an error.
fn wrapped_once_more(body: Body) -> Body {
    Body::new(body.map_frame(|frame| frame))
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

/// It was a 400: the layer's error was wrapped once more than axum looks through.
#[tokio::test]
async fn a_body_over_a_layers_limit_is_the_413_that_axum_answers() {
    let limit = || RequestBodyLimitLayer::new(1000);
    // The same again, as middleware that looks at a request leaves it.
    let rewrap = || map_request(async |request: Request| request.map(wrapped_once_more));
    let layered = [
        routes().layer(limit()),
        routes().layer(rewrap()).layer(limit()),
        routes().layer(rewrap()).layer(rewrap()).layer(limit()),
        routes().layer(DefaultBodyLimit::disable()).layer(limit()),
        routes().layer(limit()).layer(DefaultBodyLimit::max(2000)),
    ];
    for (case, routes) in layered.into_iter().enumerate() {
        let server = serve(routes).await;
        for chunks in [vec![1001], vec![600, 600], vec![1, 1000]] {
            let chunk = |size: &usize| format!("{size:x}\r\n{}\r\n", "x".repeat(*size));
            let chunked: String = chunks.iter().map(chunk).collect();
            let head = "POST /echo HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\
                transfer-encoding: chunked\r\nidempotency-key: key\r\n\r\n";
            let request = format!("{head}{chunked}0\r\n\r\n");
            let answer = raw(server.address, request).await;
            let line = String::from_utf8_lossy(answer.status_line()).into_owned();
            assert_eq!(line, "HTTP/1.1 413 Payload Too Large", "{case} {chunks:?}");
        }
        assert!(server.stored_nothing());
        assert_eq!(server.probe.runs(), 0);
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

/// It was a 422: a client makes a new boundary for each try.
#[tokio::test]
async fn the_same_upload_with_a_new_boundary_is_a_retry() {
    let server = serve(routes()).await;
    let upload = |boundary: &str, fields: [(&str, &str); 2]| {
        let field = |(name, value): (&str, &str)| {
            format!(
                "--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            )
        };
        let body = fields.map(field).concat() + &format!("--{boundary}--\r\n");
        let content_type = format!("multipart/form-data; boundary=\"{boundary}\"");
        let request = server.post("/fields", "key", body);
        reply(request.header("content-type", content_type))
    };
    let fields = [("amount", "10"), ("currency", "USD")];
    let first = upload("----one", fields).await;
    assert_eq!(first.text(), "amount=10&currency=USD in run 1");
    upload("----one", fields).await.assert_replay_of(&first);
    upload("----two", fields).await.assert_replay_of(&first);
    for other in [
        [("amount", "10"), ("currency", "EUR")],
        [("currency", "USD"), ("amount", "10")],
        [("amount", "10"), ("currenc", "yUSD")],
    ] {
        let refused = upload("----two", other).await;
        refused.assert_problem(422, "key-reused");
    }
    assert_eq!(server.probe.runs(), 1);
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
        // Those that a content extractor answers as well.
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

#[idempotent(name = "typed")]
async fn lenient(State(probe): State<Probe>, request: Request) -> String {
    drop(request);
    format!("run {}", probe.run())
}

#[idempotent(name = "typed")]
async fn strict_json(_: Json<Payment>) -> &'static str {
    "never"
}

#[idempotent(name = "typed")]
async fn strict_form(_: Form<Payment>) -> &'static str {
    "never"
}

#[idempotent(name = "typed")]
async fn strict_raw_form(_: RawForm) -> &'static str {
    "never"
}

#[idempotent(name = "typed")]
async fn strict_text(_: String) -> &'static str {
    "never"
}

/// A release whose handler takes anything, and one whose extractor is stricter.
#[tokio::test]
async fn a_completed_request_is_replayed_even_if_its_content_would_be_refused_by_now() {
    let releases = [
        ("json", post(strict_json), 415),
        ("form", post(strict_form), 415),
        ("raw form", post(strict_raw_form), 415),
        ("text", post(strict_text), 400),
    ];
    for (name, strict, status) in releases {
        // On a store in this process the replay would be found before the extractor is asked.
        let store = FaultyStore::new(MemoryStore::new());
        let before = serve_on(store.clone(), Router::new().route("/", post(lenient))).await;
        let after = serve_on(store, Router::new().route("/", strict)).await;
        let send =
            |server: &Server, body: &'static [u8]| reply(server.post("/", "key", "").body(body));
        let first = send(&before, b"\xff").await;
        assert_eq!((first.status, first.text()), (200, "run 1"));
        send(&after, b"\xff").await.assert_replay_of(&first);
        let other = send(&after, b"\xfe").await;
        assert_eq!((other.status, other.is_replay()), (status, false), "{name}");
    }
}

/// Verifies a signature over the body, and refuses a bad one as Stripe's examples do: with a 400.
struct Signed(String);

impl<S: Send + Sync> FromRequest<S> for Signed {
    type Rejection = (StatusCode, &'static str);

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let signature = request.headers().get("x-signature").cloned();
        let body = String::from_request(request, state).await.unwrap();
        match signature {
            Some(signature) if signature == body.len().to_string() => Ok(Self(body)),
            _ => Err((StatusCode::BAD_REQUEST, "bad signature")),
        }
    }
}

/// Another type around an extractor of axum's says what it likes, and whatever it likes.
struct Wrapped<T>(T);

impl<S: Send + Sync, T: FromRequest<S>> FromRequest<S> for Wrapped<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        if !request.headers().contains_key("x-signature") {
            return Err((StatusCode::BAD_REQUEST, "bad signature").into_response());
        }
        let inner = T::from_request(request, state).await;
        inner.map(Self).map_err(IntoResponse::into_response)
    }
}

#[idempotent]
async fn signed(State(probe): State<Probe>, Signed(body): Signed) -> String {
    format!("{} bytes in run {}", body.len(), probe.run())
}

#[idempotent]
async fn wrapped(State(probe): State<Probe>, Wrapped(body): Wrapped<String>) -> String {
    format!("{} bytes in run {}", body.len(), probe.run())
}

#[tokio::test]
async fn a_bad_signature_over_the_body_wins_over_a_replay() {
    let routes = Router::new()
        .route("/signed", post(signed))
        .route("/wrapped", post(wrapped));
    let server = serve(routes).await;
    for path in ["/signed", "/wrapped"] {
        let signed = || server.post(path, path, "balance").header("x-signature", 7);
        let first = reply(signed()).await;
        assert_eq!(first.status, 200);
        let stranger = reply(server.post(path, path, "balance")).await;
        assert_eq!((stranger.status, stranger.text()), (400, "bad signature"));
        assert!(!stranger.is_replay());
        reply(signed()).await.assert_replay_of(&first);
    }
}

/// Their sum may be a handler's to compare.
#[tokio::test]
async fn trailers_of_a_request_reach_the_handler() {
    #[idempotent]
    async fn sums(State(probe): State<Probe>, request: Request) -> String {
        let body = request.into_body().collect().await.unwrap();
        let sum = body.trailers().and_then(|trailers| trailers.get("x-sum"));
        format!("{sum:?} in run {}", probe.run())
    }
    let server = serve(Router::new().route("/", post(sums))).await;
    let request = "POST / HTTP/1.1\r\nhost: example.com\r\nidempotency-key: key\r\nconnection: close\r\n\
        trailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 7\r\n\r\n";
    for _ in 0..2 {
        let answer = raw(server.address, request).await;
        assert_eq!(
            String::from_utf8_lossy(&answer.body),
            "Some(\"7\") in run 1"
        );
    }
}
