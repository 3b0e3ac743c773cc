//! Response bodies that panic, wherever they are called.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use idempotent_runtime::idempotent;
use idempotent_runtime::store::memory::MemoryStore;
use tokio::io::AsyncReadExt;

use crate::support::{App, Local, Probe, raw_stream, reply, serve};

/// Produces two pieces, and panics where it is told to, and again when it is dropped.
struct Panics {
    place: &'static str,
    length: Option<u64>,
    pieces: usize,
}

const PLACES: [&str; 4] = ["size", "end", "first", "second"];

impl Panics {
    fn body(place: &str, length: Option<u64>) -> Body {
        let place = PLACES.into_iter().find(|known| *known == place);
        let place = place.expect("one of the places");
        Body::new(Self {
            place,
            length,
            pieces: 0,
        })
    }

    fn at(&self, place: &str) {
        assert!(self.place != place, "in {place}");
    }
}

impl HttpBody for Panics {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.pieces += 1;
        match self.pieces {
            1 => self.at("first"),
            2 => self.at("second"),
            _ => return Poll::Ready(None),
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from("half")))))
    }

    fn is_end_stream(&self) -> bool {
        self.at("end");
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.at("size");
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "in drop");
    }
}

#[idempotent]
async fn of_known_length(State(probe): State<Probe>, Path(place): Path<String>) -> Response {
    probe.run();
    Response::new(Panics::body(&place, Some(8)))
}

#[idempotent(max_response_bytes = 6)]
async fn streamed(State(probe): State<Probe>, Path(place): Path<String>) -> Response {
    probe.run();
    Response::new(Panics::body(&place, None))
}

fn routes() -> Router<App> {
    Router::new()
        .route("/known/{place}", post(of_known_length))
        .route("/streamed/{place}", post(streamed))
}

/// A panic about its size was neither caught nor stored: the key was in flight until the lease ended.
#[tokio::test]
async fn a_body_of_known_length_that_panics_is_a_stored_failure() {
    let local = Local::new(MemoryStore::new(), routes());
    for place in PLACES {
        let path = format!("/known/{place}");
        let first = local.post(&path, place).await;
        first.assert_problem(500, "handler-failed");
        local.post(&path, place).await.assert_replay_of(&first);
    }
    assert_eq!(local.probe.runs(), PLACES.len());
}

/// Nothing was sent when it was asked for its size.
#[tokio::test]
async fn a_stream_that_panics_about_its_size_is_a_stored_failure() {
    let local = Local::new(MemoryStore::new(), routes());
    let first = local.post("/streamed/size", "key").await;
    first.assert_problem(500, "handler-failed");
    let again = local.post("/streamed/size", "key").await;
    again.assert_replay_of(&first);
    assert_eq!(local.probe.runs(), 1);
}

/// It was dropped where the panic got out, and what was there until then was stored as the whole.
#[tokio::test]
async fn a_stream_that_panics_again_when_it_is_dropped_is_not_a_whole_response() {
    let server = serve(routes()).await;
    let request = "POST /streamed/second HTTP/1.1\r\nhost: example.com\r\nidempotency-key: key\r\n\
        content-length: 0\r\n\r\n";
    let mut client = raw_stream(server.address, request).await;
    let mut first = Vec::new();
    client.read_to_end(&mut first).await.unwrap();
    assert!(!first.ends_with(b"0\r\n\r\n"), "it looks whole");
    let again = server.settled(server.post("/streamed/second", "key", ""));
    let again = again.await;
    again.assert_problem(200, "response-not-retained");
    assert_eq!(server.probe.runs(), 1);
}

/// A layer, or a test, that reads it without a server around it.
#[tokio::test]
async fn a_stream_that_panics_fails_once_and_has_ended() {
    let local = Local::new(MemoryStore::new(), routes());
    for place in ["first", "second"] {
        let path = format!("/streamed/{place}");
        let mut body = local.response(&path, place).await.into_body();
        let mut pieces = 0;
        while let Some(Ok(_)) = body.frame().await {
            pieces += 1;
        }
        assert_eq!(pieces, usize::from(place == "second"), "then it fails");
        assert!(body.frame().await.is_none());
        drop(body);
        let again = local.post(&path, place).await;
        again.assert_problem(200, "response-not-retained");
    }
}

/// Dropped by the client before its end, it is read on.
#[tokio::test]
async fn a_stream_that_panics_in_the_background_is_not_a_whole_response() {
    let local = Local::new(MemoryStore::new(), routes());
    let response = local.response("/streamed/second", "key").await;
    drop(response);
    local.pending(0).await;
    let again = local.post("/streamed/second", "key").await;
    again.assert_problem(200, "response-not-retained");
}

/// Over the limit its record is completed, and it passes as it comes.
#[tokio::test]
async fn a_panic_about_the_end_breaks_off_what_passes() {
    let server = serve(routes()).await;
    let first = server.post("/streamed/end", "key", "").send().await;
    let first = async { first?.bytes().await };
    assert!(first.await.is_err(), "it looks whole");
    let again = reply(server.post("/streamed/end", "key", "")).await;
    again.assert_problem(200, "response-not-retained");
    assert_eq!(server.probe.runs(), 1);
}
