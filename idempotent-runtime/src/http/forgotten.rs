//! [`ForgottenRoutesLayer`]: finds unprotected handlers.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::BoxError;
use axum::body::{Body, HttpBody};
use axum::extract::MatchedPath;
use bytes::Bytes;
use http::{HeaderName, Method, Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::observed::Observed;
use crate::handle::Idempotency;
use crate::handle::problem::{Problem, ProblemCode};

/// The most routes that are remembered, so that invented methods cannot fill the memory.
const MOST_ROUTES: usize = 1024;

/// A layer that notices a request with an idempotency key that no protected handler took.
///
/// A client that sends a key believes that its retries are safe. If the handler lacks `#[idempotent]`, the key is
/// ignored, and you learn of it when a customer has paid twice. With this layer in staging, the first such request logs
/// a warning:
///
/// ```
/// use axum::{Router, routing::post};
/// use idempotent_runtime::{ForgottenRoutesLayer, Idempotency, idempotent, store::memory::MemoryStore};
///
/// #[idempotent(ttl_hours = 24)]
/// async fn create_payment() -> &'static str {
///     "paid"
/// }
///
/// async fn refund() -> &'static str {
///     "refunded" // Twice, if the client retries.
/// }
///
/// let app: Router = Router::new()
///     .route("/payments", post(create_payment))
///     .route("/payments/{id}/refund", post(refund))
///     // WARN a request with an idempotency key got its answer from a handler that is not protected
///     //      method=POST route="/payments/{id}/refund"
///     .layer(ForgottenRoutesLayer::new())
///     .with_state(Idempotency::new(MemoryStore::new()));
/// ```
///
/// The warning is logged once for each method and route, and names neither the key nor the path. With
/// [`refuse`](Self::refuse) the client gets an error too.
///
/// # What counts as forgotten
///
/// A request is reported if all of these are true: its method is not safe; it has the header; the answer is a success
/// (2xx); and it reached no handler under `#[idempotent]`, whatever the attribute's arguments (`required`, `key = expr`
/// and `#[tx]` included). The layer decides when the answer comes, because it cannot know before which handler will
/// run. It never reports another answer than a success, because such an answer does not prove that a handler has run:
/// 401 and 403 come from authentication before the protected argument, 404 and 405 from the router, 422 and 415 from an
/// extractor, 3xx from a redirect to a login. So a handler is found by its first success with a key.
///
/// # Where to put it
///
/// * `Router::layer` covers the routes that were added before it, including those of nested routers. If a route needs
///   no protection although its requests have keys (a proxy; a handler that calls [`Idempotency::execute`] itself), add
///   it after the layer.
/// * Put a layer that answers with a success *in place of* the handler (a cache, a maintenance page) outside this one.
/// * The layer also works around a whole `Router` or around `nest_service`, but the route is not known there. A
///   fallback has no route either.
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is added to a router"]
pub struct ForgottenRoutesLayer {
    header: HeaderName,
    refuse: Option<Idempotency>,
    reported: Arc<Mutex<HashSet<(Method, String)>>>,
}

/// The service of a [`ForgottenRoutesLayer`].
#[derive(Clone, Debug)]
pub struct ForgottenRoutes<S> {
    inner: S,
    layer: ForgottenRoutesLayer,
}

impl ForgottenRoutesLayer {
    /// Looks for `Idempotency-Key`, and logs.
    pub fn new() -> Self {
        Self {
            header: HeaderName::from_static("idempotency-key"),
            refuse: None,
            reported: Arc::default(),
        }
    }

    /// The header that holds the key, for operations with `header = "..."`. Default `Idempotency-Key`. If there are
    /// several headers, add a layer for each.
    pub fn header(mut self, name: HeaderName) -> Self {
        self.header = name;
        self
    }

    /// Replaces the answer by the problem 501 [`unprotected-route`](ProblemCode::UnprotectedRoute), rendered with the
    /// settings of this handle. Default: the answer is sent unchanged.
    ///
    /// **The handler has run, and the problem says so.** Use this in tests and in staging: a client that retries a 5xx
    /// runs the handler again, as it would without this layer. The answer of a protected handler is never replaced.
    pub fn refuse(mut self, idempotency: &Idempotency) -> Self {
        self.refuse = Some(idempotency.clone());
        self
    }

    /// Whether it is the first of this route.
    fn is_new(&self, method: &Method, route: &str) -> bool {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.len() < MOST_ROUTES && reported.insert((method.clone(), route.to_owned()))
    }

    /// Reports the route of a request, and gives the answer to it.
    fn report(&self, asked: &Asked, answer: Response<Body>) -> Response<Body> {
        // An outer layer of this kind has nothing to add.
        asked.observed.take();
        let route = asked.route.as_ref().map_or("none", MatchedPath::as_str);
        if self.is_new(&asked.method, route) {
            tracing::warn!(
                method = asked.method.as_str(),
                route,
                "a request with an idempotency key got its answer from a handler that is not protected"
            );
        }
        match &self.refuse {
            None => answer,
            Some(idempotency) => {
                let problem = Problem::new(ProblemCode::UnprotectedRoute);
                idempotency.problems().render(&problem)
            }
        }
    }
}

impl Default for ForgottenRoutesLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ForgottenRoutesLayer {
    type Service = ForgottenRoutes<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ForgottenRoutes {
            inner,
            layer: self.clone(),
        }
    }
}

impl<S, B, A> Service<Request<B>> for ForgottenRoutes<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    A: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let has_key = request.headers().contains_key(&self.layer.header);
        let asked = (has_key && !request.method().is_safe()).then(|| {
            let asked = Asked {
                method: request.method().clone(),
                route: request.extensions().get::<MatchedPath>().cloned(),
                observed: Observed::of(request.extensions_mut()),
            };
            (self.layer.clone(), asked)
        });
        Answering {
            future: self.inner.call(request),
            asked,
        }
    }
}

/// A request that has a key.
struct Asked {
    method: Method,
    route: Option<MatchedPath>,
    observed: Observed,
}

pin_project! {
    /// The answer to a request, and what is said about it.
    #[doc(hidden)]
    pub struct Answering<F> {
        #[pin]
        future: F,
        asked: Option<(ForgottenRoutesLayer, Asked)>,
    }
}

impl<F, A, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<A>, E>>,
    A: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.future.poll(cx))?.map(Body::new);
        Poll::Ready(Ok(match this.asked {
            Some((layer, asked)) if answer.status().is_success() && !asked.observed.is_taken() => {
                layer.report(asked, answer)
            }
            _ => answer,
        }))
    }
}

impl<F> std::fmt::Debug for Answering<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answering").finish_non_exhaustive()
    }
}
