//! Response bodies of unknown length.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::post;
use futures_util::{StreamExt, stream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::BodyExt;
use idempotent_runtime::idempotent;
use idempotent_runtime::store::memory::MemoryStore;
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::support::{
    App, Fault, FaultyStore, Local, Operation, Probe, Server, raw_stream, reply, serve,
};

type Chunk = Result<Bytes, std::io::Error>;

/// Where the test feeds the body from.
#[derive(Clone)]
struct Feed(Arc<Mutex<UnboundedReceiver<Chunk>>>);

async fn streamed(probe: &Probe, Feed(feed): Feed) -> Response {
    probe.run();
    let chunks = stream::unfold(feed, |feed| async move {
        let chunk = feed.lock().await.recv().await?;
        Some((chunk, feed))
    });
    Response::new(Body::from_stream(chunks))
}

#[idempotent(max_response_bytes = 10)]
async fn stream_up_to_ten(
    State(probe): State<Probe>,
    axum::Extension(feed): axum::Extension<Feed>,
) -> Response {
    streamed(&probe, feed).await
}

async fn streaming() -> (Server, UnboundedSender<Chunk>) {
    let (sender, receiver) = unbounded_channel();
    let feed = Feed(Arc::new(Mutex::new(receiver)));
    let routes = Router::<App>::new().route("/", post(stream_up_to_ten));
    (serve(routes.layer(axum::Extension(feed))).await, sender)
}

const REQUEST: &str =
    "POST / HTTP/1.1\r\nhost: example.com\r\nidempotency-key: key\r\ncontent-length: 0\r\n\r\n";

async fn read_until(stream: &mut tokio::net::TcpStream, what: &str) {
    let mut seen = Vec::new();
    while !seen
        .windows(what.len())
        .any(|window| window == what.as_bytes())
    {
        let byte = stream.read_u8().await.expect("more bytes");
        seen.push(byte);
    }
}

#[tokio::test]
async fn chunks_pass_as_they_come_and_the_whole_is_replayed() {
    let (server, feed) = streaming().await;
    let mut client = raw_stream(server.address, REQUEST).await;
    feed.send(Ok("12345".into())).unwrap();
    read_until(&mut client, "12345").await;
    reply(server.post("/", "key", ""))
        .await
        .assert_problem(409, "in-flight");
    feed.send(Ok("67890".into())).unwrap();
    read_until(&mut client, "67890").await;
    drop(feed);
    // Who has seen the end can rely on the record.
    read_until(&mut client, "0\r\n\r\n").await;
    let replay = reply(server.post("/", "key", "")).await;
    assert_eq!((replay.text(), replay.is_replay()), ("1234567890", true));
    assert_eq!(server.probe.runs(), 1);
}

#[tokio::test]
async fn beyond_the_limit_the_record_is_a_tombstone_and_the_stream_goes_on() {
    let (server, feed) = streaming().await;
    let mut client = raw_stream(server.address, REQUEST).await;
    feed.send(Ok("1234567890".into())).unwrap();
    feed.send(Ok("+".into())).unwrap();
    read_until(&mut client, "+").await;
    let replay = reply(server.post("/", "key", "")).await;
    replay.assert_problem(200, "response-not-retained");
    assert!(replay.is_replay());
    feed.send(Ok("the rest".into())).unwrap();
    read_until(&mut client, "the rest").await;
    assert_eq!(server.probe.runs(), 1);
}

#[tokio::test]
async fn a_stream_whose_client_goes_away_is_recorded_to_its_end() {
    let (server, feed) = streaming().await;
    let mut client = raw_stream(server.address, REQUEST).await;
    feed.send(Ok("12345".into())).unwrap();
    read_until(&mut client, "12345").await;
    drop(client);
    // The claim, and the task that reads on.
    server.pending(2).await;
    feed.send(Ok("67890".into())).unwrap();
    drop(feed);
    let replay = server.settled(server.post("/", "key", "")).await;
    assert_eq!((replay.text(), replay.is_replay()), ("1234567890", true));
    assert_eq!(server.probe.runs(), 1);
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_a_tombstone_and_never_a_whole_answer() {
    let (server, feed) = streaming().await;
    let mut client = raw_stream(server.address, REQUEST).await;
    feed.send(Ok("12345".into())).unwrap();
    read_until(&mut client, "12345").await;
    feed.send(Err(std::io::Error::other("gone"))).unwrap();
    let replay = server.settled(server.post("/", "key", "")).await;
    replay.assert_problem(200, "response-not-retained");
    assert!(replay.is_replay());
    assert_eq!(server.probe.runs(), 1);
}

#[tokio::test]
async fn a_stream_that_panics_is_a_tombstone_too() {
    #[idempotent]
    async fn panics(State(probe): State<Probe>) -> Response {
        probe.run();
        let chunks = stream::iter(["12345", ""]).map(|chunk| match chunk {
            "" => panic!("in the middle of a body"),
            chunk => Chunk::Ok(chunk.into()),
        });
        Response::new(Body::from_stream(chunks))
    }
    let server = serve(Router::new().route("/", post(panics))).await;
    let mut client = raw_stream(server.address, REQUEST).await;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(!answer.ends_with(b"0\r\n\r\n"), "it looks whole");
    let replay = server.settled(server.post("/", "key", "")).await;
    replay.assert_problem(200, "response-not-retained");
    assert!(replay.is_replay());
    assert_eq!(server.probe.runs(), 1);
}

#[tokio::test]
async fn a_stream_is_recorded_to_its_end_when_a_layer_around_it_panics() {
    // The first chunk that passes is the first answer's.
    let is_armed = Arc::new(AtomicBool::new(true));
    let layer = map_response(move |response: Response| {
        let is_armed = Arc::clone(&is_armed);
        let pass = move |frame| match is_armed.swap(false, Ordering::SeqCst) {
            true => panic!("around a body"),
            false => frame,
        };
        async move { response.map(|body| Body::new(body.map_frame(pass.clone()))) }
    });
    let (sender, receiver) = unbounded_channel();
    let feed = Feed(Arc::new(Mutex::new(receiver)));
    let routes = Router::<App>::new().route("/", post(stream_up_to_ten));
    let server = serve(routes.layer(axum::Extension(feed)).layer(layer)).await;
    let mut client = raw_stream(server.address, REQUEST).await;
    sender.send(Ok("12345".into())).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    sender.send(Ok("67890".into())).unwrap();
    drop(sender);
    let replay = server.settled(server.post("/", "key", "")).await;
    assert_eq!((replay.text(), replay.is_replay()), ("1234567890", true));
    assert_eq!(server.probe.runs(), 1);
}

/// A body of unknown length in two pieces.
fn two_pieces() -> Body {
    let pieces = ["12345", "67890"].map(|piece| Chunk::Ok(piece.into()));
    Body::from_stream(stream::iter(pieces))
}

#[idempotent]
async fn with_trailers() -> Response {
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("x-checksum"),
        HeaderValue::from_static("7"),
    )]);
    let trailers = std::future::ready(Some(Ok(trailers)));
    Response::new(Body::new(two_pieces().with_trailers(trailers)))
}

#[idempotent]
async fn with_announced_length() -> Response {
    let mut response = Response::new(two_pieces());
    let length = HeaderValue::from_static("10");
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

/// Reads a body while the store is held up, and then the rest of it: all that came before the
/// response was stored, and all that came afterwards.
async fn frames_before_and_after_it_is_stored(path: &str) -> [Vec<Frame<Bytes>>; 2] {
    let store = FaultyStore::new(MemoryStore::new());
    let routes = Router::new()
        .route("/trailers", post(with_trailers))
        .route("/announced", post(with_announced_length));
    let local = Local::new(store.clone(), routes);
    store.script(Operation::Complete, Fault::Waits);
    let mut body = local.response(path, "key").await.into_body();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    loop {
        tokio::select! {
            biased;
            frame = body.frame() => before.push(frame.expect("no end").unwrap()),
            () = store.waiting() => break,
        }
    }
    store.proceed();
    while let Some(frame) = body.frame().await {
        after.push(frame.unwrap());
    }
    let replay = local.post(path, "key").await;
    assert_eq!((replay.text(), replay.is_replay()), ("1234567890", true));
    [before, after]
}

#[tokio::test]
async fn trailers_come_only_after_the_stream_is_stored() {
    let [before, after] = frames_before_and_after_it_is_stored("/trailers").await;
    assert!(before.iter().all(Frame::is_data), "{before:?}");
    assert_eq!(before.len(), 2, "chunks pass as they come");
    let trailers = after.first().and_then(Frame::trailers_ref).unwrap();
    assert_eq!(trailers["x-checksum"], "7");
}

#[tokio::test]
async fn trailers_of_a_stream_are_replayed() {
    let routes = Router::new().route("/trailers", post(with_trailers));
    let local = Local::new(MemoryStore::new(), routes);
    for _ in 0..2 {
        let body = local.response("/trailers", "key").await.into_body();
        let body = body.collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-checksum"], "7");
        assert_eq!(body.to_bytes(), "1234567890");
    }
}

/// With its last byte the client knows that it has all of it.
#[tokio::test]
async fn last_byte_of_an_announced_length_comes_only_after_the_stream_is_stored() {
    let [before, after] = frames_before_and_after_it_is_stored("/announced").await;
    let data = |frames: &[Frame<Bytes>]| -> Vec<Bytes> {
        let data = frames.iter().filter_map(Frame::data_ref);
        data.cloned().collect()
    };
    assert_eq!(
        (data(&before), data(&after)),
        (vec!["12345".into()], vec!["67890".into()])
    );
}

#[idempotent]
async fn shorter_than_announced(State(probe): State<Probe>) -> Response {
    probe.run();
    let mut response = Response::new(two_pieces());
    let length = HeaderValue::from_static("11");
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

/// The first client has seen that it was not whole.
#[tokio::test]
async fn a_stream_that_ends_before_its_announced_length_is_a_tombstone() {
    let server = serve(Router::new().route("/", post(shorter_than_announced))).await;
    let first = server.post("/", "key", "").send().await;
    let first = async { first?.bytes().await };
    assert!(first.await.is_err());
    let replay = server.settled(server.post("/", "key", "")).await;
    replay.assert_problem(200, "response-not-retained");
    assert_eq!(server.probe.runs(), 1);
}

/// There they have to be announced, and the length of the body must not be.
#[tokio::test]
async fn trailers_are_replayed_over_http_1() {
    #[idempotent]
    async fn announced() -> Response {
        let sum = (
            HeaderName::from_static("x-sum"),
            HeaderValue::from_static("7"),
        );
        let trailers = std::future::ready(Some(Ok(HeaderMap::from_iter([sum]))));
        let mut response = Response::new(Body::new(two_pieces().with_trailers(trailers)));
        let names = HeaderValue::from_static("x-sum");
        response.headers_mut().insert("trailer", names);
        response
    }
    let server = serve(Router::new().route("/", post(announced))).await;
    let request = "POST / HTTP/1.1\r\nhost: example.com\r\nte: trailers\r\nconnection: close\r\n\
        idempotency-key: key\r\ncontent-length: 0\r\n\r\n";
    for is_replay in [false, true] {
        let answer = crate::support::raw(server.address, request).await;
        assert_eq!(
            answer.values("idempotent-replayed").len(),
            usize::from(is_replay)
        );
        assert_eq!(answer.values("trailer"), [b"x-sum"], "{answer:?}");
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(body.ends_with("\r\n0\r\nx-sum: 7\r\n\r\n"), "{body:?}");
    }
}
