//! What a record keeps alive: its own bytes, and never the buffers that they were cut out of.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::post;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request};
use idempotent_runtime::idempotent;
use idempotent_runtime::store::ReplayCache;
use idempotent_runtime::store::StoreErrorKind;
use idempotent_runtime::store::memory::MemoryStore;

use crate::support::{App, Fault, FaultyStore, Local, Operation, builder_on};

fn echoing(headers: &HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    let echo = headers["x-echo"].clone();
    response.headers_mut().insert("x-echo", echo);
    response
}

#[idempotent]
async fn echo(headers: HeaderMap, body: Bytes) -> Response {
    echoing(&headers, Body::from(body.slice(0..10)))
}

#[idempotent]
async fn echo_in_pieces(headers: HeaderMap, body: Bytes) -> Response {
    let pieces = [body.slice(0..5), body.slice(5..10)].map(Ok::<_, std::io::Error>);
    echoing(&headers, Body::from_stream(stream::iter(pieces)))
}

#[idempotent(max_response_bytes = 5)]
async fn echo_too_much(headers: HeaderMap, body: Bytes) -> Response {
    echoing(&headers, Body::from(body.slice(0..10)))
}

const PATHS: [&str; 3] = ["/echo", "/echo_in_pieces", "/echo_too_much"];

fn routes() -> Router<App> {
    Router::new()
        .route("/echo", post(echo))
        .route("/echo_in_pieces", post(echo_in_pieces))
        .route("/echo_too_much", post(echo_too_much))
}

/// Sends pieces of a large buffer, as hyper does, and says whether anything shares it afterwards.
async fn is_shared_after(local: &Local, path: &str) -> bool {
    let buffer = Bytes::from(vec![b'x'; 16 * 1024]);
    let value = HeaderValue::from_maybe_shared(buffer.slice(7..17)).unwrap();
    let mut request = Request::post(path).header("idempotency-key", "key");
    request = request.header("x-echo", value);
    let request = request.body(Body::from(buffer.slice(100..200))).unwrap();
    let reply = local.send(request).await;
    assert_eq!(reply.header("x-echo"), Some("xxxxxxxxxx"));
    drop(reply);
    !buffer.is_unique()
}

#[tokio::test]
async fn record_keeps_no_buffer_of_its_request_alive() {
    for path in PATHS {
        let local = Local::new(MemoryStore::new(), routes());
        assert!(!is_shared_after(&local, path).await, "{path}, first");
        assert!(!is_shared_after(&local, path).await, "{path}, replay");
    }
}

/// In the replay cache as well.
#[tokio::test]
async fn cached_record_keeps_no_buffer_of_its_request_alive() {
    for path in PATHS {
        let store = FaultyStore::new(MemoryStore::new());
        let local = Local::with(builder_on(store).replay_cache(ReplayCache::new()), routes());
        for request in 1..4 {
            assert!(!is_shared_after(&local, path).await, "{path}, {request}");
        }
    }
}

#[tokio::test]
async fn response_that_waits_to_be_stored_keeps_no_buffer_of_its_request_alive() {
    for path in PATHS {
        let store = FaultyStore::new(MemoryStore::new());
        let refused = Fault::Refused(StoreErrorKind::Unavailable);
        store.script_times(1000, Operation::Complete, refused);
        let local = Local::new(store.clone(), routes());
        assert!(!is_shared_after(&local, path).await, "{path}");
        assert!(local.idempotency.pending() > 0, "{path} is stored");
    }
}

#[idempotent]
async fn secret() -> Response {
    let mut response = Response::default();
    for (name, is_sensitive) in [("x-secret", true), ("x-open", false)] {
        let mut value = HeaderValue::from_static("value");
        value.set_sensitive(is_sensitive);
        response.headers_mut().insert(name, value);
    }
    response
}

#[tokio::test]
async fn sensitive_header_is_sensitive_in_a_replay() {
    let local = Local::new(
        MemoryStore::new(),
        Router::new().route("/secret", post(secret)),
    );
    for is_replay in [false, true] {
        let response = local.response("/secret", "key").await;
        let headers = response.headers();
        assert_eq!(headers.contains_key("idempotent-replayed"), is_replay);
        assert!(headers["x-secret"].is_sensitive());
        assert!(!headers["x-open"].is_sensitive());
    }
}
