//! Replays: the first answer, byte for byte.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use http::{HeaderMap, HeaderValue, StatusCode};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::{HeaderFilter, Idempotency, idempotent};

use crate::support::{
    App, Local, Probe, builder_on, raw, reply, serve, serve_on_manual_clock, serve_with,
};

#[idempotent]
async fn everything(State(probe): State<Probe>) -> Response {
    let mut headers = HeaderMap::new();
    headers.append("location", HeaderValue::from_static("/payments/1"));
    headers.append("x-multi", HeaderValue::from_static("one"));
    headers.append("set-cookie", HeaderValue::from_static("session=1"));
    headers.append("x-multi", HeaderValue::from_static("two"));
    headers.append("x-bytes", HeaderValue::from_bytes(b"caf\xe9 \xff").unwrap());
    headers.append("set-cookie", HeaderValue::from_static("theme=dark"));
    headers.append(
        "content-type",
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.append("x-run", HeaderValue::from(probe.run()));
    (StatusCode::CREATED, headers, (0..=255).collect::<Vec<u8>>()).into_response()
}

fn close(path: &str, key: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\
         idempotency-key: {key}\r\ncontent-length: 0\r\n\r\n"
    )
}

#[tokio::test]
async fn a_replay_is_equal_byte_for_byte() {
    let server = serve(Router::new().route("/", post(everything))).await;
    let first = raw(server.address, close("/", "key")).await;
    let replay = raw(server.address, close("/", "key")).await;

    assert_eq!(first.status_line(), b"HTTP/1.1 201 Created");
    assert_eq!(first.stable_head(), replay.stable_head());
    assert_eq!(first.body, replay.body);
    assert_eq!(replay.body, (0..=255).collect::<Vec<u8>>());
    assert_eq!(replay.values("x-multi"), [&b"one"[..], b"two"]);
    assert_eq!(replay.values("x-bytes"), [b"caf\xe9 \xff"]);
    assert_eq!(replay.values("content-length"), [b"256"]);

    assert_eq!(
        first.values("set-cookie").len(),
        2,
        "the first answer is the handler's own"
    );
    assert!(replay.values("set-cookie").is_empty());
    assert!(first.values("idempotent-replayed").is_empty());
    assert_eq!(replay.values("idempotent-replayed"), [b"true"]);
    assert_eq!(server.probe.runs(), 1);
}

#[idempotent]
async fn of_this_connection(State(probe): State<Probe>) -> Response {
    let headers = [
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("x-a", "1"),
        ("keep-alive", "timeout=5"),
        ("x-b", "2"),
        ("x-c", "3"),
    ];
    (headers, format!("run {}", probe.run())).into_response()
}

#[tokio::test]
async fn headers_that_are_left_out_do_not_reorder_the_others() {
    let server = serve(Router::new().route("/", post(of_this_connection))).await;
    for _ in 0..2 {
        let answer = raw(server.address, close("/", "key")).await;
        let names = answer
            .head
            .iter()
            .filter(|line| line.starts_with(b"x-") && !line.starts_with(b"x-hop"));
        let names: Vec<_> = names.map(|line| &line[..3]).collect();
        assert_eq!(names, [b"x-a", b"x-b", b"x-c"], "{answer:?}");
    }
    let replay = raw(server.address, close("/", "key")).await;
    assert!(replay.values("x-hop").is_empty(), "{replay:?}");
    assert_eq!(server.probe.runs(), 1);
}

#[tokio::test]
async fn the_application_chooses_which_headers_are_stored() {
    let filter = HeaderFilter::default()
        .include(&http::header::SET_COOKIE)
        .exclude(http::HeaderName::from_static("x-multi"));
    let builder = Idempotency::builder(MemoryStore::new()).stored_headers(filter);
    let server = serve_with(builder, Router::new().route("/", post(everything))).await;
    let first = raw(server.address, close("/", "key")).await;
    let replay = raw(server.address, close("/", "key")).await;
    assert_eq!(replay.values("set-cookie"), first.values("set-cookie"));
    assert!(replay.values("x-multi").is_empty());
}

#[idempotent]
async fn bare_status(State(probe): State<Probe>, Path(code): Path<u16>) -> StatusCode {
    probe.run();
    StatusCode::from_u16(code).unwrap()
}

#[tokio::test]
async fn statuses_without_a_body_have_no_length() {
    let server = serve(Router::new().route("/{code}", post(bare_status))).await;
    for code in [204, 304] {
        let first = raw(
            server.address,
            close(&format!("/{code}"), &code.to_string()),
        )
        .await;
        let replay = raw(
            server.address,
            close(&format!("/{code}"), &code.to_string()),
        )
        .await;
        assert_eq!(first.stable_head(), replay.stable_head());
        for answer in [first, replay] {
            assert!(
                answer.values("content-length").is_empty(),
                "{code}: {answer:?}"
            );
            assert!(
                answer.values("transfer-encoding").is_empty(),
                "{code}: {answer:?}"
            );
            assert!(answer.body.is_empty());
        }
    }
    // A 205 ends where its head ends: HTTP/1 needs the length to say so.
    for _ in 0..2 {
        let reset = raw(server.address, close("/205", "205")).await;
        assert_eq!(reset.values("content-length"), [b"0"], "{reset:?}");
    }
}

#[tokio::test]
async fn over_http_2_a_204_has_no_length_either() {
    let server = serve(Router::new().route("/{code}", post(bare_status))).await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    for replayed in [None, Some("true")] {
        let request = client
            .post(format!("http://{}/204", server.address))
            .header("idempotency-key", "key");
        let answer = reply(request).await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.header("content-length"), None, "{answer:?}");
        assert_eq!(answer.header("idempotent-replayed"), replayed);
    }
}

#[idempotent(ttl_secs = 60)]
async fn short_lived(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

#[tokio::test]
async fn when_its_ttl_has_passed_a_key_runs_again() {
    let (server, clock) = serve_on_manual_clock(Router::new().route("/", post(short_lived))).await;
    let first = reply(server.post("/", "key", "")).await;
    clock.advance(std::time::Duration::from_millis(59_999));
    reply(server.post("/", "key", ""))
        .await
        .assert_replay_of(&first);
    clock.advance(std::time::Duration::from_millis(1));
    let again = reply(server.post("/", "key", "")).await;
    assert_eq!((again.is_replay(), again.text()), (false, "2"));
}

#[tokio::test]
async fn the_handles_ttl_is_for_operations_that_have_none_of_their_own() {
    let clock = std::sync::Arc::new(idempotent_runtime::ManualClock::new());
    let store = MemoryStore::builder().clock(clock.clone()).build();
    let routes = Router::new()
        .route("/own", post(short_lived))
        .route("/none", post(read));
    let ttl = std::time::Duration::from_secs(10);
    let server = serve_with(Idempotency::builder(store).ttl(ttl), routes).await;
    for path in ["/own", "/none"] {
        assert!(!reply(server.post(path, "key", "")).await.is_replay());
    }
    clock.advance(ttl);
    assert!(reply(server.post("/own", "key", "")).await.is_replay());
    assert!(!reply(server.post("/none", "key", "")).await.is_replay());
}

#[idempotent]
async fn read(State(probe): State<Probe>) -> String {
    probe.run().to_string()
}

#[tokio::test]
async fn safe_methods_pass_through() {
    let server = serve(Router::new().route("/", get(read))).await;
    for run in ["1", "2"] {
        let answer = reply(server.request(reqwest::Method::GET, "/", "key")).await;
        assert_eq!((answer.text(), answer.is_replay()), (run, false));
    }
    let request = server.request(reqwest::Method::GET, "/", "no \"key\" at all");
    assert_eq!(reply(request).await.status, 200);
    assert!(server.stored_nothing());
}

#[tokio::test]
async fn unsafe_methods_do_not_meet_each_other() {
    let routes = Router::<App>::new().route("/", post(read).merge(delete(read)));
    let server = serve(routes).await;
    assert_eq!(
        reply(server.request(reqwest::Method::POST, "/", "key"))
            .await
            .text(),
        "1"
    );
    assert_eq!(
        reply(server.request(reqwest::Method::DELETE, "/", "key"))
            .await
            .text(),
        "2"
    );
    assert!(
        reply(server.request(reqwest::Method::DELETE, "/", "key"))
            .await
            .is_replay()
    );
}

#[tokio::test]
async fn a_hundred_requests_on_one_connection_replay_in_order() {
    let server = serve(Router::new().route("/", post(read))).await;
    for run in 1..=100 {
        let first = reply(server.post("/", &format!("key-{run}"), "")).await;
        assert_eq!(first.text(), run.to_string());
        reply(server.post("/", &format!("key-{run}"), ""))
            .await
            .assert_replay_of(&first);
    }
}

/// With the type and length of the body and the status of the key they are as many as there can be: one more, and the map panics.
#[idempotent]
async fn many_headers(State(probe): State<Probe>) -> Response {
    probe.run();
    let names = (0..24_573).map(|number| format!("x-{number}"));
    let headers: HeaderMap = names
        .map(|name| (name.try_into().unwrap(), HeaderValue::from_static("")))
        .collect();
    (headers, "done").into_response()
}

#[tokio::test]
async fn a_response_with_as_many_headers_as_there_can_be_is_not_retained() {
    let routes = Router::new().route("/", post(many_headers));
    let builder = builder_on(MemoryStore::new()).status_header(true);
    let local = Local::with(builder, routes);
    let first = local.post("/", "key").await;
    assert_eq!((first.status, first.text()), (200, "done"));
    let replay = local.post("/", "key").await;
    replay.assert_problem(200, "response-not-retained");
    assert_eq!(local.probe.runs(), 1);
}
