//! For any `Service<http::Request<B>>`: hyper, tonic.

use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Either};
use tower_layer::Layer;
use tower_service::Service;

use crate::buffered::BufferedBody;
use crate::clock::Clock;
use crate::error::BoxError;
use crate::grpc;
use crate::intent::Intent;
use crate::open::OpenCheck;
use crate::policy::Policy;
use crate::run::{Failure, Settings, Transport, Whole, run};

/// A layer that sends requests with an intent as [`Policy`] says. It leaves requests without one alone.
///
/// A request has its intent in its extensions; a [`Policy`] there replaces the layer's. The body must be `Clone`, so
/// that every try has the same bytes: a stream does not compile, but [`BufferLayer`](crate::BufferLayer) turns it into
/// bytes. Put no layer that follows redirects or retries below this one.
///
/// The service's error is a [`BoxError`]: for a request with an intent it is an [`Error`](crate::Error).
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::Full;
/// use idempotent_client::{Error, Intent, IntentLayer, Policy};
/// use tower::{Layer, Service, ServiceExt};
/// # use tower::BoxError;
///
/// # async fn pay<S>(http: S, intent: &Intent) -> Result<(), BoxError>
/// # where S: Service<http::Request<Full<Bytes>>, Response = http::Response<Full<Bytes>>> + Clone + Send + 'static,
/// #       S::Future: Send, S::Error: Into<BoxError> {
/// let service = IntentLayer::new(Policy::new()).layer(http);      // such as hyper-util's client
///
/// let mut request = http::Request::post("https://example.com/payments").body(Full::from("{}"))?;
/// request.extensions_mut().insert(intent.clone());
/// match service.oneshot(request).await {
///     Ok(response) => println!("conclusive: {}", response.status()),
///     Err(error) => match error.downcast_ref() {
///         Some(Error::Undecided { intent, .. }) => println!("send {intent:?} again later"),
///         _ => return Err(error),
///     },
/// }
/// # Ok(())
/// # }
/// ```
///
/// # gRPC
///
/// The answer to a gRPC call is HTTP 200, whatever happened. Its `grpc-status` is read as the HTTP status that
/// `google/rpc/code.proto` names for it: `UNAVAILABLE` is a 503, and is retried. An answer without a status is
/// incomplete, and a 2xx that is not gRPC, such as the page of a gateway, is not an answer. The status of gRPC-Web is
/// read from the last frame of the body; `application/grpc-web-text` is not read, so its successes end as undecided. In
/// tonic, put the intent into `tonic::Request::extensions_mut`, and make the channel like this:
///
/// ```
/// use idempotent_client::{BufferLayer, BufferedBody, IntentLayer, Policy};
/// use tower::ServiceBuilder;
///
/// # fn build(channel: tonic::transport::Channel) {
/// let channel = ServiceBuilder::new()
///     .layer(BufferLayer::new())
///     .layer(IntentLayer::new(Policy::new()))
///     .map_request(|request: http::Request<BufferedBody>| request.map(tonic::body::Body::new))
///     .service(channel);
/// # let _ = channel;
/// # }
/// ```
///
/// The error of a call is a `tonic::Status` whose source is the [`Error`](crate::Error).
#[derive(Debug, Clone)]
pub struct IntentLayer {
    settings: Settings,
}

impl IntentLayer {
    /// Uses this policy for every request without its own.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            settings: Settings::new(policy),
        }
    }

    /// The header that carries the key. Default: `Idempotency-Key`.
    #[must_use]
    pub fn key_header(mut self, name: HeaderName) -> Self {
        self.settings.header = name;
        self
    }

    /// Calls `ask` before each try: is the intent still open in your database? If not, nothing is sent, and the call
    /// ends as undecided, with [`Reason::Closed`](crate::Reason::Closed). For an intent that another process may give
    /// up.
    #[must_use]
    pub fn open_while<F, A>(mut self, ask: F) -> Self
    where
        F: Fn(&Intent) -> A + Send + Sync + 'static,
        A: Future<Output = bool> + Send + 'static,
    {
        self.settings.open_check = Some(OpenCheck::new(ask));
        self
    }

    /// The source of time and randomness, for tests. Default: [`SystemClock`](crate::SystemClock).
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.settings.clock = clock;
        self
    }
}

impl<S> Layer<S> for IntentLayer {
    type Service = IntentService<S>;

    fn layer(&self, inner: S) -> IntentService<S> {
        IntentService {
            inner,
            settings: self.settings.clone(),
        }
    }
}

/// The service that [`IntentLayer`] makes.
#[derive(Debug, Clone)]
pub struct IntentService<S> {
    inner: S,
    settings: Settings,
}

/// The body of a response: buffered if the request had an intent, otherwise unchanged.
pub type ResponseBody<B> = Either<BufferedBody, B>;

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, B, R> Service<Request<B>> for IntentService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Clone + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = BoxError;
    type Future = BoxFuture<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The one that is ready goes, and a clone stays.
        let clone = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, clone);
        let Some(intent) = request.extensions().get::<Intent>().cloned() else {
            let response = ready.call(request);
            return Box::pin(
                async move { Ok(response.await.map_err(Into::into)?.map(Either::Right)) },
            );
        };
        let settings = self.settings.with_policy_of(request.extensions());
        settings.set_key(request.headers_mut(), &intent);
        let service = self.inner.clone();
        Box::pin(async move {
            let mut tries = Tries {
                service,
                ready: Some(ready),
                request,
            };
            let whole = run(&intent, &settings, &mut tries).await?;
            let trailers = whole.trailers;
            let body = |data| Either::Left(BufferedBody::new(data, trailers));
            Ok(whole.answer.map(body))
        })
    }
}

struct Tries<S, B> {
    service: S,
    /// Only the first try finds the service ready. Each other one asks a clone: what is left in it, such as a place in a queue, goes with the try.
    ready: Option<S>,
    request: Request<B>,
}

impl<S, B, R> Transport for Tries<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Clone + Send,
    R: Body<Data = Bytes> + Send,
    R::Error: Into<BoxError>,
{
    fn send(&mut self) -> Pin<Box<dyn Future<Output = Result<Whole, Failure>> + Send + '_>> {
        let request = self.request.clone();
        let is_grpc = grpc::is_of_grpc(request.headers());
        Box::pin(async move {
            let mut service = match self.ready.take() {
                Some(ready) => ready,
                None => {
                    let mut service = self.service.clone();
                    let ready = poll_fn(|context| service.poll_ready(context)).await;
                    ready.map_err(lost)?;
                    service
                }
            };
            let response = service.call(request).await.map_err(lost)?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(lost)?;
            let trailers = body.trailers().cloned();
            let answer = Response::from_parts(parts, body.to_bytes());
            Ok(Whole {
                answer,
                trailers,
                is_grpc,
            })
        })
    }
}

fn lost(error: impl Into<BoxError>) -> Failure {
    Failure::Lost(error.into())
}
