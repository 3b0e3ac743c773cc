//! An application that is called without a socket.

use std::fmt::Debug;
use std::future::poll_fn;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use tower_service::Service;

/// An application to which a test sends requests: an `axum::Router` with its state, with or without layers around it,
/// or any other service for requests with a body `B`. All of these implement it.
pub trait App<B>: Clone + Send + Sync + 'static {
    /// Sends a request, and reads the whole answer.
    #[doc(hidden)]
    fn answer(self, request: Request<B>) -> impl Future<Output = Response<Bytes>> + Send;
}

impl<S, B, A> App<B> for S
where
    S: Service<Request<B>, Response = Response<A>, Error: Debug, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Send + 'static,
    A: Body<Data: Send, Error: Debug> + Send + 'static,
{
    #[expect(clippy::expect_used, reason = "a test fails by a panic")]
    async fn answer(mut self, request: Request<B>) -> Response<Bytes> {
        let ready = poll_fn(|cx| self.poll_ready(cx)).await;
        ready.expect("the service is ready");
        let response = self.call(request).await.expect("the service answers");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("the answer has a whole body");
        Response::from_parts(parts, body.to_bytes())
    }
}

/// A request with its whole body, of which copies can be made.
#[expect(clippy::expect_used, reason = "a test fails by a panic")]
pub(super) async fn whole<B: Body<Error: Debug>>(request: Request<B>) -> Request<Bytes> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("the request has a whole body");
    Request::from_parts(parts, body.to_bytes())
}

/// The same method, URI, version, headers, extensions and body.
pub(super) fn copy<B: From<Bytes>>(request: &Request<Bytes>) -> Request<B> {
    request.clone().map(B::from)
}
