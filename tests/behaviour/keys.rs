//! The key: where it comes from and what is refused.

use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::routing::post;
use axum::{Json, Router};
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{Idempotency, KeySyntax, OnStoreFailure, idempotent};
use serde::Deserialize;
use tokio::time::timeout;

use crate::support::{
    App, Fault, FaultyStore, Local, Operation, Probe, builder_on, raw, reply, serve, serve_with,
    uuid_v7,
};

#[idempotent]
async fn pay(State(probe): State<Probe>, body: String) -> String {
    format!("run {} of {body}", probe.run())
}

fn routes() -> Router<App> {
    Router::new().route("/pay", post(pay))
}

/// What it sends would be in vain.
#[tokio::test(start_paused = true)]
async fn missing_key_is_told_before_the_body_is_there() {
    let local = Local::new(MemoryStore::new(), routes());
    let never = futures_util::stream::pending::<std::io::Result<Bytes>>();
    let request = Request::post("/pay")
        .body(Body::from_stream(never))
        .unwrap();
    let answer = timeout(Duration::from_secs(60), local.send(request)).await;
    answer.unwrap().assert_problem(400, "missing-key");
    assert_eq!(local.probe.runs(), 0);
}

#[tokio::test]
async fn missing_key_is_400_and_nothing_runs() {
    let server = serve(routes()).await;
    let answer = reply(server.post_without_key("/pay").body("10")).await;
    answer.assert_problem(400, "missing-key");
    assert!(
        answer.text().contains("`idempotency-key`"),
        "names the header: {}",
        answer.text()
    );
    assert_eq!(server.probe.runs(), 0);
    assert!(server.stored_nothing());
}

#[tokio::test]
async fn bad_keys_are_400_and_nothing_runs() {
    let server = serve(routes()).await;
    let too_long = "k".repeat(256);
    let bad: [&[u8]; 17] = [
        b"",
        b"   ",
        br#""""#,
        too_long.as_bytes(),
        "clé".as_bytes(),
        "\"clé\"".as_bytes(),
        b"\xff\xfe",
        b"a\tb",
        b"\"a\tb\"",
        b"two words",
        b"one,two",
        b"one;two",
        b"in\"side",
        b"\"unterminated",
        br#""early" end"#,
        br#""escape\n""#,
        br#""trailing\"#,
    ];
    for key in bad {
        let mut request = b"POST /pay HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\
            content-length: 2\r\nidempotency-key: "
            .to_vec();
        request.extend_from_slice(key);
        request.extend_from_slice(b"\r\n\r\n10");
        let answer = raw(server.address, request).await;
        let shown = String::from_utf8_lossy(key);
        assert_eq!(answer.status_line(), b"HTTP/1.1 400 Bad Request", "{shown}");
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(problem["code"], "invalid-key", "{shown}: {problem}");
    }
    assert_eq!(server.probe.runs(), 0);
    assert!(server.stored_nothing());
}

#[tokio::test]
async fn a_control_character_never_reaches_the_handler() {
    let server = serve(routes()).await;
    let request = "POST /pay HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\
        idempotency-key: a\x01b\r\ncontent-length: 2\r\n\r\n10";
    let answer = raw(server.address, request).await;
    assert_eq!(answer.status_line(), b"HTTP/1.1 400 Bad Request");
    assert_eq!(server.probe.runs(), 0);
}

#[tokio::test]
async fn a_key_sent_twice_is_400() {
    let server = serve(routes()).await;
    let request = server
        .post("/pay", "one", "10")
        .header("idempotency-key", "one");
    reply(request).await.assert_problem(400, "invalid-key");
    assert_eq!(server.probe.runs(), 0);
}

#[tokio::test]
async fn a_key_of_255_bytes_is_fine() {
    let server = serve(routes()).await;
    let first = reply(server.post("/pay", &"k".repeat(255), "10")).await;
    assert_eq!(first.status, 200);
    reply(server.post("/pay", &"k".repeat(255), "10"))
        .await
        .assert_replay_of(&first);
}

#[tokio::test]
async fn quoted_equals_bare() {
    let server = serve(routes()).await;
    let first = reply(server.post("/pay", "abc-1", "10")).await;
    reply(server.post("/pay", r#""abc-1""#, "10"))
        .await
        .assert_replay_of(&first);
    assert_eq!(server.probe.runs(), 1);
}

#[tokio::test]
async fn keys_that_nearly_agree_do_not_meet() {
    let server = serve(routes()).await;
    for key in [
        "abc",
        "ABC",
        r#""abc ""#,
        r#"" abc""#,
        r#""a\"bc""#,
        r#""a\\bc""#,
        "ab-c",
    ] {
        assert!(
            !reply(server.post("/pay", key, "10")).await.is_replay(),
            "{key}"
        );
    }
    assert_eq!(server.probe.runs(), 7);
}

#[tokio::test]
async fn strict_syntax_accepts_the_quoted_form_only() {
    let strict = Idempotency::builder(MemoryStore::new()).key_syntax(KeySyntax::Strict);
    let server = serve_with(strict, routes()).await;
    reply(server.post("/pay", "bare", "10"))
        .await
        .assert_problem(400, "invalid-key");
    assert_eq!(
        reply(server.post("/pay", r#""quoted""#, "10")).await.status,
        200
    );
}

#[idempotent(required = false)]
async fn optional(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

#[tokio::test]
async fn without_a_key_an_optional_one_runs_unprotected() {
    let server = serve(Router::new().route("/", post(optional))).await;
    assert_eq!(reply(server.post_without_key("/")).await.text(), "1");
    assert_eq!(reply(server.post_without_key("/")).await.text(), "2");
    assert!(server.stored_nothing());
    reply(server.post("/", "", ""))
        .await
        .assert_problem(400, "invalid-key");
    let first = reply(server.post("/", "key", "")).await;
    reply(server.post("/", "key", ""))
        .await
        .assert_replay_of(&first);
}

#[idempotent(header = "X-Request-Token")]
async fn other_header(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

#[tokio::test]
async fn the_key_can_come_in_another_header() {
    let server = serve(Router::new().route("/", post(other_header))).await;
    let answer = reply(server.post("/", "in the usual header", "")).await;
    answer.assert_problem(400, "missing-key");
    assert!(answer.text().contains("`x-request-token`"));
    let request = || server.post_without_key("/").header("X-REQUEST-TOKEN", "1");
    let first = reply(request()).await;
    reply(request()).await.assert_replay_of(&first);
}

#[derive(Deserialize)]
struct Order {
    id: Option<u64>,
}

#[idempotent(key = order.id)]
async fn by_order(State(probe): State<Probe>, Json(order): Json<Order>) -> String {
    format!("{:?} in run {}", order.id, probe.run())
}

#[tokio::test]
async fn a_key_can_be_made_from_the_arguments() {
    let server = serve(Router::new().route("/", post(by_order))).await;
    let order = |body: &'static str| {
        server
            .post_without_key("/")
            .header("content-type", "application/json")
            .body(body)
    };
    let first = reply(order(r#"{"id":9007199254740993}"#)).await;
    reply(order(r#"{"id":9007199254740993}"#))
        .await
        .assert_replay_of(&first);
    assert!(!reply(order(r#"{"id":9007199254740992}"#)).await.is_replay());
    reply(order(r#"{"id":9007199254740993,"more":1}"#))
        .await
        .assert_problem(422, "key-reused");
    reply(order(r#"{"id":null}"#))
        .await
        .assert_problem(400, "missing-key");
    assert_eq!(server.probe.runs(), 2);
}

#[idempotent(key_age = "ttl", ttl_hours = 1)]
async fn aged(State(probe): State<Probe>) -> String {
    format!("run {}", probe.run())
}

/// A UUIDv7 that was made so many seconds ago, or will be.
fn made_before(seconds: i64) -> String {
    let age = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    uuid_v7(if seconds < 0 { now + age } else { now - age })
}

#[tokio::test]
async fn a_key_that_is_older_than_its_record_does_not_run() {
    let server = serve(Router::new().route("/aged", post(aged))).await;
    let send = async |key: String| reply(server.post("/aged", &key, "")).await;
    let young = made_before(0);
    assert_eq!(send(young.clone()).await.text(), "run 1");
    assert_eq!(send(young).await.text(), "run 1");
    // An hour less 5 minutes is the limit, and the clock goes on meanwhile.
    assert_eq!(send(made_before(54 * 60)).await.text(), "run 2");
    send(made_before(56 * 60))
        .await
        .assert_problem(400, "key-expired");
    send(made_before(-7 * 60))
        .await
        .assert_problem(400, "invalid-key");
    assert_eq!(send(made_before(-4 * 60)).await.text(), "run 3");
    assert_eq!(send("order-4711".to_owned()).await.text(), "run 4");
    assert_eq!(server.probe.runs(), 4);
}

/// The same operation before its keys' age was looked at.
#[idempotent(name = "order", ttl_hours = 1, lease = "1h")]
async fn order_at_any_age(State(probe): State<Probe>) -> String {
    format!("run {}", probe.run_gated().await)
}

#[idempotent(name = "order", ttl_hours = 1, lease = "1h", key_age = "ttl")]
async fn order_in_time(State(probe): State<Probe>) -> String {
    format!("run {}", probe.run())
}

/// Its TTL is counted from when it was given, which can be long after the key was made.
#[tokio::test]
async fn record_is_answered_from_however_old_its_key_is() {
    let store = FaultyStore::new(MemoryStore::new());
    let before = Router::new().route("/order", post(order_at_any_age));
    let before = Local::with(builder_on(store.clone()), before);
    let builder = builder_on(store.clone()).on_store_failure(OnStoreFailure::FailOpen);
    let in_time = Local::with(builder, Router::new().route("/order", post(order_in_time)));
    let key: &'static str = made_before(2 * 60 * 60).leak();
    let running = before.spawn("/order", key);
    before.probe.started().await;
    let duplicate = in_time.post("/order", key).await;
    duplicate.assert_problem(409, "in-flight");
    before.probe.open();
    let first = running.await.unwrap();
    in_time.post("/order", key).await.assert_replay_of(&first);
    let other = http::Request::post("/order")
        .header("idempotency-key", key)
        .body("another".into());
    let other = in_time.send(other.unwrap()).await;
    other.assert_problem(422, "key-reused");

    let unused = made_before(2 * 60 * 60 + 1);
    let expired = in_time.post("/order", &unused).await;
    expired.assert_problem(400, "key-expired");
    // Without a look it cannot be told.
    store.script(Operation::Get, Fault::Refused(StoreErrorKind::Unavailable));
    let unknown = in_time.post("/order", &unused).await;
    unknown.assert_problem(503, "store-unavailable");
    assert_eq!(in_time.probe.runs(), 0);
}

#[idempotent(key_age = "ttl", ttl = "1s")]
async fn aged_fast(State(probe): State<Probe>) -> String {
    format!("run {}", probe.run())
}

/// It would be a minute too young to be refused when its record has gone.
#[tokio::test]
async fn key_that_is_further_ahead_than_the_margin_of_a_short_ttl_is_refused() {
    let server = serve(Router::new().route("/aged", post(aged_fast))).await;
    let send = async |key: String| reply(server.post("/aged", &key, "")).await;
    let refused = send(made_before(-60)).await;
    refused.assert_problem(400, "invalid-key");
    assert_eq!(send(made_before(0)).await.text(), "run 1");
    assert_eq!(server.probe.runs(), 1);
}
