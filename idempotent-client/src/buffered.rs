//! Bodies that can be sent again, and the layer that makes them.

use std::convert::Infallible;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http::header::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use tower_layer::Layer;
use tower_service::Service;

use crate::error::BoxError;
use crate::tower::BoxFuture;

/// A complete body in memory, with its trailers. Clones are cheap.
#[derive(Clone, Default)]
pub struct BufferedBody {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl BufferedBody {
    pub(crate) fn new(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        let data = Some(data).filter(|data| !data.is_empty());
        Self { data, trailers }
    }
}

impl From<Bytes> for BufferedBody {
    fn from(data: Bytes) -> Self {
        Self::new(data, None)
    }
}

/// Without its content: it may be secret.
impl fmt::Debug for BufferedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.data.as_ref().map_or(0, Bytes::len);
        f.debug_struct("BufferedBody")
            .field("bytes", &bytes)
            .field("trailers", &self.trailers.is_some())
            .finish()
    }
}

impl Body for BufferedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let bytes = self.data.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

/// A layer that reads each request's body to its end, up to a limit, so that [`IntentLayer`](crate::IntentLayer) below can send it again.
///
/// For bodies that are not `Clone` but short and whole, such as the message of a unary gRPC call. Do not use it for a
/// call whose request is a stream that waits for answers.
#[derive(Debug, Clone)]
pub struct BufferLayer {
    max_bytes: usize,
}

impl BufferLayer {
    /// Bodies of up to 4 MiB.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_bytes: 4 * 1024 * 1024,
        }
    }

    /// The largest body; a larger one is an error, and nothing is sent. Default: 4 MiB.
    #[must_use]
    pub const fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }
}

impl Default for BufferLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for BufferLayer {
    type Service = BufferService<S>;

    fn layer(&self, inner: S) -> BufferService<S> {
        BufferService {
            inner,
            max_bytes: self.max_bytes,
        }
    }
}

/// The service that [`BufferLayer`] makes.
#[derive(Debug, Clone)]
pub struct BufferService<S> {
    inner: S,
    max_bytes: usize,
}

impl<S, B> Service<Request<B>> for BufferService<S>
where
    S: Service<Request<BufferedBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    S::Response: 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let clone = self.inner.clone();
        let mut service = mem::replace(&mut self.inner, clone);
        let max_bytes = self.max_bytes;
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = Limited::new(body, max_bytes).collect().await?;
            let trailers = body.trailers().cloned();
            let body = BufferedBody::new(body.to_bytes(), trailers);
            let request = Request::from_parts(parts, body);
            service.call(request).await.map_err(Into::into)
        })
    }
}
