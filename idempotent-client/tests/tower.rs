//! What is particular to the layer, and gRPC; `played` has every row of the table, with hyper's client.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::{Buf, BufMut, Bytes};
use futures_util::stream;
use http::header::{HeaderMap, HeaderValue};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use idempotent_client::{
    BoxError, BufferLayer, BufferedBody, Error, Intent, IntentLayer, Policy, Reason, ResponseExt,
};
use support::FakeClock;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

/// How a gRPC call ends.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// A message, and this status in the trailers.
    Message(u16),
    /// This status in the headers, and nothing else.
    HeadersOnly(u16),
    ResetInBody,
    /// A message, and no status.
    NoStatus,
    /// Stored before: marked.
    Replay(u16),
    /// HTTP 503 of a proxy.
    Proxy,
    /// HTTP 200 of a gateway: its page to sign in.
    Page,
}

type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The key and the message of each call.
type Calls = Arc<Mutex<Vec<(Option<HeaderValue>, Bytes)>>>;

async fn serve(endings: &'static [Ending]) -> (SocketAddr, Calls) {
    let calls = Calls::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::clone(&calls);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let seen = Arc::clone(&seen);
            let service = hyper::service::service_fn(move |request| {
                answer(request, Arc::clone(&seen), endings)
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, calls)
}

async fn answer(
    request: Request<Incoming>,
    calls: Calls,
    endings: &[Ending],
) -> Result<Response<Body>, Infallible> {
    let key = request.headers().get("idempotency-key").cloned();
    let message = request.into_body().collect().await.unwrap().to_bytes();
    let number = {
        let mut calls = calls.lock().unwrap();
        calls.push((key, message));
        calls.len()
    };
    let ending = endings[(number - 1).min(endings.len() - 1)];
    let mut response = Response::builder().header("content-type", "application/grpc");
    if let Ending::HeadersOnly(status) = ending {
        response = response.header("grpc-status", status);
    }
    if let Ending::Replay(_) = ending {
        response = response.header("idempotent-replayed", "true");
    }
    let message = Bytes::from_static(b"\0\0\0\0\x07receipt");
    let full = Full::new(message.clone()).map_err(|never| match never {});
    let body = match ending {
        Ending::Message(status) | Ending::Replay(status) => {
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.into())]);
            full.with_trailers(async move { Some(Ok(trailers)) })
                .boxed_unsync()
        }
        Ending::NoStatus => full.boxed_unsync(),
        Ending::HeadersOnly(_) => Empty::new().map_err(|never| match never {}).boxed_unsync(),
        Ending::ResetInBody => {
            let frames = [Ok(Frame::data(message)), Err(BoxError::from("cut"))];
            StreamBody::new(stream::iter(frames)).boxed_unsync()
        }
        Ending::Proxy => {
            response = Response::builder().status(503);
            full.boxed_unsync()
        }
        Ending::Page => {
            response = Response::builder().header("content-type", "text/html");
            full.boxed_unsync()
        }
    };
    Ok(response.body(body).unwrap())
}

/// Messages that are bytes as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

fn clock() -> Arc<FakeClock> {
    FakeClock::new(SystemTime::now(), 0.5)
}

async fn call(
    address: SocketAddr,
    intent: Option<&Intent>,
) -> Result<tonic::Response<Bytes>, Status> {
    let channel = Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy();
    let channel = ServiceBuilder::new()
        .layer(BufferLayer::new())
        .layer(IntentLayer::new(Policy::new()).clock(clock()))
        .map_request(|request: Request<BufferedBody>| request.map(tonic::body::Body::new))
        .service(channel);
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(Bytes::from_static(b"order"));
    if let Some(intent) = intent {
        request.extensions_mut().insert(intent.clone());
    }
    client
        .unary(request, "/shop.Payments/Create".parse().unwrap(), Raw)
        .await
}

fn check_calls(calls: &Calls, intent: &Intent, count: usize) {
    let calls = calls.lock().unwrap();
    assert_eq!(calls.len(), count);
    for (key, message) in &*calls {
        assert_eq!(key.as_ref().unwrap(), &format!("\"{}\"", intent.key()));
        assert_eq!(&message[..], b"\0\0\0\0\x05order");
    }
}

#[tokio::test]
async fn grpc_call_is_sent_again_until_it_has_a_whole_answer() {
    let (address, calls) = serve(&[
        Ending::HeadersOnly(14),
        Ending::Message(14),
        Ending::ResetInBody,
        Ending::NoStatus,
        Ending::Proxy,
        Ending::Message(0),
    ])
    .await;
    let intent = Intent::new();
    let response = call(address, Some(&intent)).await.unwrap();
    assert_eq!(&response.get_ref()[..], b"receipt");
    check_calls(&calls, &intent, 6);
}

#[tokio::test]
async fn page_of_a_gateway_is_no_answer_to_a_grpc_call() {
    let (address, calls) = serve(&[Ending::Page, Ending::Message(0)]).await;
    let intent = Intent::new();
    let response = call(address, Some(&intent)).await.unwrap();
    assert_eq!(&response.get_ref()[..], b"receipt");
    check_calls(&calls, &intent, 2);

    let (address, _) = serve(&[Ending::Page]).await;
    let status = call(address, Some(&intent)).await.unwrap_err();
    let error: &Error = std::error::Error::source(&status)
        .unwrap()
        .downcast_ref()
        .unwrap();
    assert!(error.is_undecided());
    assert_eq!(
        error.answer().unwrap().headers()["content-type"],
        "text/html"
    );
}

#[tokio::test]
async fn first_refusal_of_a_grpc_call_is_its_answer() {
    let (address, calls) = serve(&[Ending::HeadersOnly(9)]).await;
    let intent = Intent::new();
    let status = call(address, Some(&intent)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    check_calls(&calls, &intent, 1);
}

#[tokio::test]
async fn replayed_failure_of_a_grpc_call_is_its_answer() {
    let (address, calls) = serve(&[Ending::Message(13), Ending::Replay(13)]).await;
    let intent = Intent::new();
    let status = call(address, Some(&intent)).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    check_calls(&calls, &intent, 2);
}

#[tokio::test]
async fn undecided_grpc_call_is_the_source_of_its_status() {
    let (address, calls) = serve(&[Ending::Message(14)]).await;
    let intent = Intent::new();
    let status = call(address, Some(&intent)).await.unwrap_err();
    let error: &Error = std::error::Error::source(&status)
        .unwrap()
        .downcast_ref()
        .unwrap();
    assert!(error.is_undecided());
    assert_eq!(error.reason(), Some(Reason::Attempts));
    assert_eq!(error.intent().key(), intent.key());
    assert_eq!(error.answer().unwrap().headers()["grpc-status"], "14");
    check_calls(&calls, &intent, 6);
}

#[tokio::test]
async fn unauthenticated_grpc_call_after_an_unknown_try_is_undecided() {
    let (address, calls) = serve(&[Ending::ResetInBody, Ending::HeadersOnly(16)]).await;
    let intent = Intent::new();
    let status = call(address, Some(&intent)).await.unwrap_err();
    let error: &Error = std::error::Error::source(&status)
        .unwrap()
        .downcast_ref()
        .unwrap();
    assert_eq!(error.reason().unwrap().to_string(), "401");
    check_calls(&calls, &intent, 2);
}

#[tokio::test]
async fn grpc_call_without_an_intent_is_left_alone() {
    let (address, calls) = serve(&[Ending::HeadersOnly(14)]).await;
    let status = call(address, None).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let calls = calls.lock().unwrap();
    assert_eq!((calls.len(), &calls[0].0), (1, &None));
}

#[tokio::test]
async fn body_over_the_limit_of_the_buffer_is_not_sent() {
    let inner = tower::service_fn(|_: Request<BufferedBody>| async {
        Err::<Response<BufferedBody>, BoxError>("sent".into())
    });
    let service = BufferLayer::new().max_bytes(4).layer(inner);
    let send = |body: &'static str| {
        service
            .clone()
            .oneshot(Request::new(Full::<Bytes>::from(body)))
    };
    assert_eq!(send("1234").await.unwrap_err().to_string(), "sent");
    assert_eq!(
        send("12345").await.unwrap_err().to_string(),
        "length limit exceeded"
    );
}

/// Ready for one call after each `poll_ready`; clones are not ready.
struct Strict {
    is_ready: bool,
    calls: Arc<Mutex<u32>>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self {
            is_ready: false,
            calls: Arc::clone(&self.calls),
        }
    }
}

impl Service<Request<Full<Bytes>>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        self.is_ready = true;
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.is_ready),
            "called before it was ready"
        );
        let mut calls = self.calls.lock().unwrap();
        *calls += 1;
        let status = if *calls % 2 == 1 { 503 } else { 201 };
        std::future::ready(Ok(Response::builder()
            .status(status)
            .body(Full::from("x"))
            .unwrap()))
    }
}

#[tokio::test]
async fn service_is_ready_at_every_call() {
    let calls = Arc::default();
    let inner = Strict {
        is_ready: false,
        calls: Arc::clone(&calls),
    };
    let mut service = IntentLayer::new(Policy::new()).clock(clock()).layer(inner);
    for _ in 0..2 {
        let mut request = Request::new(Full::from("order"));
        request.extensions_mut().insert(Intent::new());
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), 201);
        assert!(!response.is_replay());
    }
    assert_eq!(*calls.lock().unwrap(), 4);
}

#[tokio::test]
async fn answer_to_a_request_without_an_intent_is_not_awaited_to_its_end() {
    let inner = tower::service_fn(|request: Request<Full<Bytes>>| async move {
        assert!(!request.headers().contains_key("idempotency-key"));
        let endless = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        Ok::<_, BoxError>(Response::new(endless.boxed_unsync()))
    });
    let service = IntentLayer::new(Policy::new()).layer(inner);
    service
        .oneshot(Request::new(Full::from("order")))
        .await
        .unwrap();
}

#[tokio::test]
async fn policy_of_the_request_goes_before_that_of_the_layer() {
    let calls = Arc::default();
    let inner = Strict {
        is_ready: false,
        calls: Arc::clone(&calls),
    };
    let service = IntentLayer::new(Policy::new()).clock(clock()).layer(inner);
    let mut request = Request::new(Full::from("order"));
    request.extensions_mut().insert(Intent::new());
    request.extensions_mut().insert(Policy::new().attempts(1));
    let error = service.oneshot(request).await.unwrap_err();
    assert!(error.downcast_ref::<Error>().unwrap().is_undecided());
    assert_eq!(*calls.lock().unwrap(), 1);
}

#[tokio::test]
async fn try_that_ended_before_the_service_was_ready_is_not_in_the_way_of_others() {
    let (answer, held) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (may_answer, is_held) = (Arc::clone(&answer), Arc::clone(&held));
    let service = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let (answer, held) = (Arc::clone(&may_answer), Arc::clone(&is_held));
        async move {
            match request.uri().path() {
                "/payments" => answer.notified().await,
                "/held" => held.notified().await,
                _ => (),
            }
            let response = Response::builder()
                .status(503)
                .body(Full::<Bytes>::default());
            Ok::<_, Infallible>(response.unwrap())
        }
    });
    let clock = FakeClock::new(SystemTime::now(), 0.5);
    let service = ServiceBuilder::new()
        .layer(IntentLayer::new(Policy::new()).clock(clock.clone()))
        .concurrency_limit(1)
        .service(service);
    let request = |path: &str| Request::post(format!("http://shop{path}")).body(Full::default());

    let mut payment = request("/payments").unwrap();
    payment.extensions_mut().insert(Intent::new());
    let payment = tokio::spawn(service.clone().oneshot(payment));
    tokio::task::yield_now().await;
    let other = tokio::spawn(service.clone().oneshot(request("/held").unwrap()));
    tokio::task::yield_now().await;
    // The other request is next, and the second try waits behind it until its time is over.
    answer.notify_one();
    while clock.timeouts().len() < 2 {
        tokio::task::yield_now().await;
    }
    clock.hang();
    clock.fire_timeout();
    while clock.waits().len() < 2 {
        tokio::task::yield_now().await;
    }
    held.notify_one();
    other.await.unwrap().unwrap();

    let third = service.oneshot(request("/third").unwrap());
    let ended = tokio::time::timeout(Duration::from_secs(5), third).await;
    assert!(
        ended.is_ok(),
        "a payment that waits for its next try holds up the others"
    );
    payment.abort();
}
