//! Clients that keep their connection and read no more of a response of unknown length.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Router};
use futures_util::{FutureExt, StreamExt, stream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt;
use idempotent_runtime::idempotent;
use idempotent_runtime::store::memory::MemoryStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{App, Fault, FaultyStore, Local, Operation, Probe, reply, serve};

/// More than what is enough for a response to be recorded without its client, on a clock that stands still.
const LONG: Duration = Duration::from_secs(5);

/// Where the test feeds a body from.
#[derive(Clone)]
struct Feed(Arc<Mutex<UnboundedReceiver<&'static str>>>);

/// A body that the test feeds.
fn fed(Feed(feed): Feed) -> Body {
    let pieces = stream::unfold(feed, |feed| async move {
        let piece = feed.lock().await.recv().await?;
        Some((std::io::Result::Ok(piece), feed))
    });
    Body::from_stream(pieces)
}

#[idempotent(max_response_bytes = 10)]
async fn streamed(State(probe): State<Probe>, Extension(feed): Extension<Feed>) -> Response {
    probe.run();
    Response::new(fed(feed))
}

#[idempotent]
async fn with_trailers(State(probe): State<Probe>, Extension(feed): Extension<Feed>) -> Response {
    probe.run();
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("x-checksum"),
        HeaderValue::from_static("7"),
    )]);
    let trailers = std::future::ready(Some(Ok(trailers)));
    Response::new(Body::new(fed(feed).with_trailers(trailers)))
}

#[idempotent]
async fn announced(State(probe): State<Probe>, Extension(feed): Extension<Feed>) -> Response {
    probe.run();
    let mut response = Response::new(fed(feed));
    let length = HeaderValue::from_static("10");
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

/// An application whose responses are what the test feeds them, and its store.
struct Scene {
    local: Local,
    store: FaultyStore,
    feed: UnboundedSender<&'static str>,
}

fn scene() -> Scene {
    let (feed, fed) = unbounded_channel();
    let fed = Feed(Arc::new(Mutex::new(fed)));
    let store = FaultyStore::new(MemoryStore::new());
    let routes = Router::<App>::new()
        .route("/streamed", post(streamed))
        .route("/trailers", post(with_trailers))
        .route("/announced", post(announced))
        .layer(Extension(fed));
    Scene {
        local: Local::new(store.clone(), routes),
        store,
        feed,
    }
}

impl Scene {
    fn produce<const N: usize>(&self, pieces: [&'static str; N]) {
        for piece in pieces {
            self.feed.send(piece).unwrap();
        }
    }

    /// Nothing more is produced.
    fn end(&mut self) {
        self.feed = unbounded_channel().0;
    }

    /// Until the response is recorded without its client.
    async fn assert_stored(&self, path: &str) {
        sleep(LONG).await;
        let again = self.local.post(path, "key").await;
        assert_eq!((again.text(), again.is_replay()), ("1234567890", true));
        assert_eq!(self.local.probe.runs(), 1);
    }
}

async fn piece(body: &mut Body) -> Bytes {
    let frame = body.frame().await.expect("no end").expect("no error");
    frame.into_data().expect("data")
}

async fn rest(body: Body) -> Bytes {
    body.collect().await.unwrap().to_bytes()
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_never_read_is_stored_and_can_be_read_afterwards() {
    for path in ["/streamed", "/trailers", "/announced"] {
        let mut scene = scene();
        let body = scene.local.response(path, "key").await.into_body();
        scene.produce(["12345", "67890"]);
        scene.end();
        scene.assert_stored(path).await;
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().map(|trailers| &trailers["x-checksum"]);
        assert_eq!(trailers.is_some(), path == "/trailers");
        assert_eq!(body.to_bytes(), "1234567890", "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_gets_the_rest_when_it_reads_again() {
    let mut scene = scene();
    let mut body = scene.local.response("/streamed", "key").await.into_body();
    scene.produce(["12", "34", "56", "7890"]);
    scene.end();
    assert_eq!(piece(&mut body).await, "12");
    let running = scene.local.post("/streamed", "key").await;
    running.assert_problem(409, "in-flight");
    scene.assert_stored("/streamed").await;
    assert_eq!(rest(body).await, "34567890");
}

/// It has asked for more, is woken when there is more, and does not come for it.
#[tokio::test(start_paused = true)]
async fn a_client_that_has_waited_for_more_can_stop_reading_too() {
    let mut scene = scene();
    let mut body = scene.local.response("/streamed", "key").await.into_body();
    assert!(body.frame().now_or_never().is_none());
    scene.produce(["12345", "67890"]);
    scene.end();
    scene.assert_stored("/streamed").await;
    assert_eq!(rest(body).await, "1234567890");
}

#[tokio::test(start_paused = true)]
async fn a_client_may_stop_and_read_again_as_often_as_it_likes() {
    let mut scene = scene();
    let mut body = scene.local.response("/streamed", "key").await.into_body();
    scene.produce(["1", "2"]);
    sleep(LONG).await;
    // Both were read without it, and there will be more.
    assert_eq!(piece(&mut body).await, "12");
    assert!(body.frame().now_or_never().is_none());
    scene.produce(["34"]);
    assert_eq!(piece(&mut body).await, "34");
    scene.produce(["56"]);
    sleep(LONG).await;
    scene.produce(["78"]);
    sleep(LONG).await;
    assert_eq!(piece(&mut body).await, "5678");
    scene.produce(["9"]);
    assert_eq!(piece(&mut body).await, "9");
    let running = scene.local.post("/streamed", "key").await;
    running.assert_problem(409, "in-flight");
    scene.produce(["0"]);
    scene.end();
    scene.assert_stored("/streamed").await;
    assert_eq!(rest(body).await, "0");
}

/// However long there is nothing to read.
#[tokio::test(start_paused = true)]
async fn a_client_that_waits_gets_each_piece_as_it_comes() {
    let mut scene = scene();
    let mut body = scene.local.response("/streamed", "key").await.into_body();
    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(frame) = body.frame().await {
            seen.push((Instant::now(), frame.unwrap().into_data().unwrap()));
        }
        seen
    });
    let mut sent = Vec::new();
    for text in ["12345", "67890"] {
        sleep(Duration::from_secs(60)).await;
        scene.produce([text]);
        sent.push((Instant::now(), Bytes::from(text)));
    }
    sleep(Duration::from_millis(1)).await;
    scene.end();
    assert_eq!(reader.await.unwrap(), sent);
    scene.assert_stored("/streamed").await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_gets_the_end_only_after_it_is_stored() {
    for path in ["/streamed", "/trailers", "/announced"] {
        let mut scene = scene();
        scene.store.script(Operation::Complete, Fault::Waits);
        let mut body = scene.local.response(path, "key").await.into_body();
        scene.produce(["12345"]);
        assert_eq!(piece(&mut body).await, "12345");
        scene.produce(["67890"]);
        scene.end();
        // In the store's hands, without the client.
        let waiting = timeout(LONG, scene.store.waiting()).await;
        waiting.expect("it is stored without the client");
        assert!(body.frame().now_or_never().is_none(), "{path}");
        scene.store.proceed();
        assert_eq!(rest(body).await, "67890", "{path}");
        scene.assert_stored(path).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_over_the_limit_is_read_up_to_the_limit_without_its_client() {
    let mut scene = scene();
    let body = scene.local.response("/streamed", "key").await.into_body();
    scene.produce(["1234567890", "+", "the rest"]);
    sleep(LONG).await;
    let again = scene.local.post("/streamed", "key").await;
    again.assert_problem(200, "response-not-retained");
    assert!(again.is_replay());
    scene.end();
    assert_eq!(rest(body).await, "1234567890+the rest");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_and_goes_away_is_still_recorded() {
    let mut scene = scene();
    let body = scene.local.response("/streamed", "key").await.into_body();
    scene.produce(["12345"]);
    sleep(LONG).await;
    drop(body);
    scene.produce(["67890"]);
    scene.end();
    scene.assert_stored("/streamed").await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_holds_up_no_shutdown() {
    let mut scene = scene();
    let body = scene.local.response("/streamed", "key").await.into_body();
    scene.produce(["1234567890"]);
    scene.end();
    assert_eq!(scene.local.idempotency.shutdown(LONG).await, 0);
    assert_eq!(rest(body).await, "1234567890");
}

/// Much more than what a client that does not read lets through.
const CHUNKS: usize = 256;
const CHUNK: &[u8] = &[b'~'; 65_536];

#[idempotent(max_response_bytes = 67_108_864)]
async fn large(State(probe): State<Probe>) -> Response {
    probe.run();
    let chunks = stream::iter(0..CHUNKS).map(|_| std::io::Result::Ok(CHUNK));
    Response::new(Body::from_stream(chunks))
}

/// The key was in flight for as long as the connection lived, and its lease was renewed.
#[tokio::test]
async fn a_client_that_does_not_read_its_socket_keeps_no_key_in_flight() {
    let server = serve(Router::<App>::new().route("/", post(large))).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(server.address).await.unwrap();
    let request = "POST / HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\
        idempotency-key: key\r\ncontent-length: 0\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    server.probe.started().await;
    let left = server.idempotency.shutdown(Duration::from_secs(60)).await;
    assert_eq!(left, 0, "still in flight");
    let again = reply(server.post("/", "key", "")).await;
    assert_eq!((again.status, again.is_replay()), (200, true));
    assert_eq!(again.body.len(), CHUNKS * CHUNK.len());
    // And it is served all of it.
    let mut first = Vec::new();
    client.read_to_end(&mut first).await.unwrap();
    let bytes = first.iter().filter(|byte| **byte == b'~').count();
    assert_eq!(bytes, CHUNKS * CHUNK.len());
    assert!(first.ends_with(b"\r\n0\r\n\r\n"));
}

/// It is the one that the body wakes.
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_again_is_woken_at_the_end() {
    let Scene { local, feed, .. } = scene();
    let mut body = local.response("/streamed", "key").await.into_body();
    // The watch reads on, and waits for the body.
    sleep(LONG).await;
    // The watch is woken, but the client is first: it takes the piece, and waits for more.
    feed.send("12345").unwrap();
    assert_eq!(piece(&mut body).await, "12345");
    tokio::spawn(async move {
        sleep(Duration::from_millis(10)).await;
        feed.send("67890").unwrap();
    });
    let began = Instant::now();
    // That this timeout ends polls the body once more, so only the time tells.
    let rest = timeout(Duration::from_secs(3600), rest(body)).await;
    assert_eq!(rest.unwrap(), "67890");
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "the client hung for {:?}",
        began.elapsed()
    );
}

/// One that is not the end, too.
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_again_gets_each_piece_as_it_comes() {
    let Scene { local, feed, .. } = scene();
    let mut body = local.response("/streamed", "key").await.into_body();
    sleep(Duration::from_millis(4_100)).await;
    feed.send("12345").unwrap();
    assert_eq!(piece(&mut body).await, "12345");
    let kept = feed.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(10)).await;
        feed.send("67").unwrap();
    });
    let began = Instant::now();
    assert_eq!(piece(&mut body).await, "67");
    assert!(
        began.elapsed() < Duration::from_millis(100),
        "{:?}",
        began.elapsed()
    );
    drop(kept);
}
