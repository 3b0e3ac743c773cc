//! Request bodies over HTTP/2 whose clients give up midway.
//!
//! A stream that is reset without an error (`NO_ERROR`, which is what Node's `request.close()` sends) looks to a server like one that has
//! ended.

use std::future::ready;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, map_request};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http_body::{Frame, SizeHint};
use idempotent_runtime::idempotent;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::support::{App, Probe, Server, serve};

const ORDER: &str = "10 crates of tea";
const HALF: &str = "10 crates";

#[idempotent]
async fn pay(State(probe): State<Probe>, order: String) -> String {
    format!("{order} in run {}", probe.run())
}

/// Tells of each piece of a body that has arrived.
struct Told {
    body: Body,
    arrived: UnboundedSender<()>,
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(_))) = poll {
            self.arrived.send(()).unwrap();
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn serve_told(routes: Router<App>) -> (Server, UnboundedReceiver<()>) {
    let (sender, arrived) = unbounded_channel();
    let tell = map_request(move |request: Request| {
        let arrived = sender.clone();
        ready(request.map(|body| Body::new(Told { body, arrived })))
    });
    (serve(routes.layer(tell)).await, arrived)
}

/// A connection on which the test chooses the frames.
async fn connect(server: &Server) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (client, connection) = client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

/// Sends the head of a request.
fn begin(
    client: &mut SendRequest<Bytes>,
    length: Option<usize>,
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut request = Request::post("http://example.com/").header("idempotency-key", "key");
    if let Some(length) = length {
        request = request.header("content-length", length);
    }
    client
        .send_request(request.body(()).unwrap(), false)
        .unwrap()
}

/// Sends a whole request, and reads what is answered.
async fn send(client: &mut SendRequest<Bytes>) -> (u16, String) {
    let (answer, mut body) = begin(client, Some(ORDER.len()));
    body.send_data(Bytes::from_static(ORDER.as_bytes()), true)
        .unwrap();
    let (head, mut body) = answer.await.unwrap().into_parts();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        text.extend_from_slice(&data.unwrap());
    }
    (head.status.as_u16(), String::from_utf8(text).unwrap())
}

/// It ran with the half that had arrived, and the retry with the whole body was a 422.
#[tokio::test]
async fn a_request_that_is_reset_midway_does_not_run() {
    for reason in [Reason::NO_ERROR, Reason::CANCEL] {
        for length in [None, Some(ORDER.len())] {
            let (server, mut arrived) = serve_told(Router::new().route("/", post(pay))).await;
            let mut client = connect(&server).await;
            let (answer, mut body) = begin(&mut client, length);
            body.send_data(Bytes::from_static(HALF.as_bytes()), false)
                .unwrap();
            arrived.recv().await.unwrap();
            body.send_reset(reason);
            assert!(answer.await.is_err());
            // The server has seen the reset before this.
            let retry = send(&mut client).await;
            assert_eq!(
                retry,
                (200, format!("{ORDER} in run 1")),
                "{reason:?} {length:?}"
            );
        }
    }
}

/// Before any of its body has arrived.
#[tokio::test]
async fn a_request_that_is_reset_at_once_does_not_run() {
    let (begun, mut arrived) = unbounded_channel();
    let tell = map_request(move |request: Request| {
        begun.send(()).unwrap();
        ready(request)
    });
    let server = serve(Router::new().route("/", post(pay)).layer(tell)).await;
    let mut client = connect(&server).await;
    let (answer, mut body) = begin(&mut client, None);
    arrived.recv().await.unwrap();
    body.send_reset(Reason::NO_ERROR);
    assert!(answer.await.is_err());
    let retry = send(&mut client).await;
    assert_eq!(retry, (200, format!("{ORDER} in run 1")));
}

/// The server cannot drop what runs in a task of its own; but the body is not as long as it has said.
async fn shielded(request: Request, next: Next) -> Response {
    tokio::spawn(next.run(request)).await.unwrap()
}

#[tokio::test]
async fn behind_a_layer_that_goes_on_without_the_client_its_length_tells() {
    let routes = Router::new().route("/", post(pay)).layer(from_fn(shielded));
    let (server, mut arrived) = serve_told(routes).await;
    let mut client = connect(&server).await;
    let (answer, mut body) = begin(&mut client, Some(ORDER.len()));
    body.send_data(Bytes::from_static(HALF.as_bytes()), false)
        .unwrap();
    arrived.recv().await.unwrap();
    body.send_reset(Reason::NO_ERROR);
    assert!(answer.await.is_err());
    let retry = send(&mut client).await;
    assert_eq!(retry, (200, format!("{ORDER} in run 1")));
}
