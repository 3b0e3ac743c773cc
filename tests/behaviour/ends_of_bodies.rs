//! Response bodies that have produced all of their length and do not say that they have ended.
//!
//! A server sends no more than the length, so with axum alone the client has its answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use futures_util::stream;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use idempotent_runtime::idempotent;
use idempotent_runtime::store::memory::MemoryStore;

use crate::support::{App, Local, Probe, reply, serve};

/// Longer than any answer takes.
const LONG: Duration = Duration::from_secs(20);

/// Produces these pieces, is then neither ready nor at its end, and knows its length or does not.
struct Endless {
    pieces: Vec<&'static str>,
    knows_length: bool,
}

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.pieces.pop() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(Bytes::from(piece))))),
            None => Poll::Pending,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.pieces.iter().map(|piece| piece.len() as u64).sum();
        match self.knows_length {
            true => SizeHint::with_exact(left),
            false => SizeHint::new(),
        }
    }
}

fn endless<const N: usize>(pieces: [&'static str; N], knows_length: bool) -> Response {
    Response::new(Body::new(Endless {
        pieces: pieces.into_iter().rev().collect(),
        knows_length,
    }))
}

fn exact<const N: usize>(pieces: [&'static str; N]) -> Response {
    endless(pieces, true)
}

fn announced<const N: usize>(length: &'static str, pieces: [&'static str; N]) -> Response {
    let mut response = endless(pieces, false);
    let length = HeaderValue::from_static(length);
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

#[idempotent]
async fn exact_in_one_piece(State(probe): State<Probe>) -> Response {
    probe.run();
    exact(["1234567890"])
}

#[idempotent]
async fn exact_in_two_pieces(State(probe): State<Probe>) -> Response {
    probe.run();
    exact(["12345", "67890"])
}

#[idempotent]
async fn announced_in_one_piece(State(probe): State<Probe>) -> Response {
    probe.run();
    announced("10", ["1234567890"])
}

#[idempotent]
async fn announced_in_two_pieces(State(probe): State<Probe>) -> Response {
    probe.run();
    announced("10", ["12345", "67890"])
}

#[idempotent]
async fn exact_and_empty(State(probe): State<Probe>) -> Response {
    probe.run();
    exact([])
}

#[idempotent]
async fn announced_and_empty(State(probe): State<Probe>) -> Response {
    probe.run();
    announced("0", [])
}

/// The client got no answer, and the key stayed in flight.
#[tokio::test]
async fn a_body_that_has_produced_its_length_has_ended() {
    let routes = Router::<App>::new()
        .route("/exact/one", post(exact_in_one_piece))
        .route("/exact/two", post(exact_in_two_pieces))
        .route("/announced/one", post(announced_in_one_piece))
        .route("/announced/two", post(announced_in_two_pieces))
        .route("/exact/none", post(exact_and_empty))
        .route("/announced/none", post(announced_and_empty))
        .route("/plain", post(async || exact(["12345", "67890"])));
    let server = serve(routes).await;
    let plain = tokio::time::timeout(LONG, reply(server.post("/plain", "key", "")));
    assert_eq!(plain.await.expect("an answer").text(), "1234567890");
    for path in [
        "/exact/one",
        "/exact/two",
        "/announced/one",
        "/announced/two",
    ] {
        let first = tokio::time::timeout(LONG, reply(server.post(path, path, "")));
        let first = first.await.expect(path);
        assert_eq!((first.status, first.text()), (200, "1234567890"), "{path}");
        reply(server.post(path, path, ""))
            .await
            .assert_replay_of(&first);
    }
    for path in ["/exact/none", "/announced/none"] {
        let first = tokio::time::timeout(LONG, reply(server.post(path, path, "")));
        let first = first.await.expect(path);
        assert_eq!((first.status, first.text()), (200, ""), "{path}");
        // The client has it all with its head, and does not wait for the end.
        let again = server.settled(server.post(path, path, "")).await;
        assert!(again.is_replay(), "{again:?}");
    }
    assert_eq!(server.probe.runs(), 6);
}

/// Of ten bytes it produces five.
struct Short(Option<&'static str>);

impl HttpBody for Short {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.0.take();
        Poll::Ready(piece.map(|piece| Ok(Frame::data(Bytes::from(piece)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(if self.0.is_some() { 10 } else { 5 })
    }
}

#[idempotent]
async fn short(State(probe): State<Probe>) -> Response {
    probe.run();
    Response::new(Body::new(Short(Some("12345"))))
}

/// As the response of a provider that is passed on, whose connection has ended. The half that was there was stored as the whole.
#[tokio::test]
async fn a_body_that_ends_before_its_length_is_a_stored_failure() {
    let server = serve(Router::new().route("/", post(short))).await;
    let first = reply(server.post("/", "key", "")).await;
    first.assert_problem(500, "handler-failed");
    let replay = reply(server.post("/", "key", "")).await;
    replay.assert_replay_of(&first);
    assert_eq!(server.probe.runs(), 1);
}

#[idempotent]
async fn with_trailers() -> Response {
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("x-checksum"),
        HeaderValue::from_static("7"),
    )]);
    let pieces = ["12345", "67890"].map(std::io::Result::Ok);
    let body = Body::from_stream(stream::iter(pieces));
    let trailers = std::future::ready(Some(Ok(trailers)));
    let mut response = Response::new(Body::new(body.with_trailers(trailers)));
    let length = HeaderValue::from_static("10");
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

/// HTTP/2 can send them.
#[tokio::test]
async fn trailers_behind_an_announced_length_are_stored() {
    let local = Local::new(
        MemoryStore::new(),
        Router::new().route("/", post(with_trailers)),
    );
    for _ in 0..2 {
        let body = local.response("/", "key").await.into_body();
        let body = body.collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-checksum"], "7");
        assert_eq!(body.to_bytes(), "1234567890");
    }
}

#[idempotent]
async fn late_trailers(State(_): State<Probe>) -> Response {
    let trailers = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Some(Ok(HeaderMap::from_iter([(
            HeaderName::from_static("x-checksum"),
            HeaderValue::from_static("7"),
        )])))
    };
    let body = http_body_util::Full::new(Bytes::from("1234567890"));
    Response::new(Body::new(body.with_trailers(Box::pin(trailers))))
}

/// A server waits for them over HTTP/2.
#[tokio::test(start_paused = true)]
async fn trailers_that_are_ready_later_are_not_lost() {
    let local = Local::new(
        MemoryStore::new(),
        Router::new().route("/", post(late_trailers)),
    );
    for _ in 0..2 {
        let body = local.response("/", "key").await.into_body();
        let body = body.collect().await.unwrap();
        assert!(body.trailers().is_some());
        assert_eq!(body.to_bytes(), "1234567890");
    }
}
