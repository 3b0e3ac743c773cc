//! A handler's request, wrapped: where the attribute meets axum.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRef, FromRequest, MatchedPath, Request};
use axum::response::{IntoResponse, Response};
use axum::{BoxError, RequestExt};
use bytes::Bytes;
use http::request::Parts;
use http_body_util::BodyExt;
use pin_project_lite::pin_project;

use super::admission::{Admission, Identified, Mark};
use super::body::{self, Begun};
use super::capture::{self, Handling};
use super::extraction::{ByAxum, Extraction};
use super::head::{Head, Keys, View};
use super::resolved::Resolved;
use super::{Attempt, Idempotency, Inputs};
use crate::engine::Detach;
use crate::policy::Policy;

/// A request of which all arguments but the last are extracted, and about which nothing is decided
/// yet.
///
/// `E` is inferred. `USUAL` says that the key is in the `Idempotency-Key` header, so that a request
/// without that header needs no protection.
pub struct IdempotentRequest<T, E, const USUAL: bool = true> {
    idempotency: Idempotency,
    content: Content,
    extraction: E,
    marker: PhantomData<fn() -> T>,
}

enum Content {
    /// Of a request with a key. Its body is buffered.
    Keyed {
        parts: Parts,
        keys: Keys,
        body: Bytes,
    },
    /// There is nothing to protect: the request is safe, or has no key.
    Keyless { is_safe: bool, request: Request },
}

/// What there is to protect, while the last argument is extracted.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is what most requests are, and a box would cost each of them"
)]
pub(super) enum Subject {
    Nothing {
        idempotency: Idempotency,
        is_safe: bool,
    },
    Request {
        head: Head,
        body: Bytes,
    },
}

/// The last argument, and all that it is extracted from.
pub(super) struct Last<T, E> {
    request: Request,
    extraction: E,
    marker: PhantomData<fn() -> T>,
}

impl<T, E: Extraction<T>> Last<T, E> {
    pub(super) fn extract(self) -> impl Future<Output = Result<T, Response>> + Send {
        self.extraction.extract(self.request)
    }
}

impl<S, T, M, const USUAL: bool> FromRequest<S> for IdempotentRequest<T, ByAxum<S, M>, USUAL>
where
    S: Clone + Send + Sync + 'static,
    T: FromRequest<S, M>,
    Idempotency: FromRef<S>,
{
    type Rejection = Response;

    fn from_request(
        request: Request,
        state: &S,
    ) -> impl Future<Output = Result<Self, Response>> + Send {
        Self::buffer(Idempotency::from_ref(state), request, ByAxum::with(state))
    }
}

impl<T, E, const USUAL: bool> IdempotentRequest<T, E, USUAL> {
    /// Reads the body, if there is something to protect.
    pub(super) async fn buffer(
        idempotency: Idempotency,
        request: Request,
        extraction: E,
    ) -> Result<Self, Response> {
        // GET, HEAD, OPTIONS and TRACE are idempotent by themselves (RFC 9110, section 9.2.2).
        let is_safe = request.method().is_safe();
        let keys = if is_safe {
            None
        } else {
            Keys::of(request.headers(), USUAL)
        };
        let content = match keys {
            None => Content::Keyless { is_safe, request },
            Some(keys) => {
                let (parts, body) = request.with_limited_body().into_parts();
                let body = buffer(body).await?;
                Content::Keyed { parts, keys, body }
            }
        };
        Ok(Self {
            idempotency,
            content,
            extraction,
            marker: PhantomData,
        })
    }

    /// What the application wants of the request, if it wants anything. Asked for once.
    pub(super) fn resolve(&self, policy: &Policy) -> Option<Box<Resolved>> {
        match &self.content {
            Content::Keyed { parts, .. } => Resolved::of(&self.idempotency, policy, parts),
            Content::Keyless { .. } => None,
        }
    }

    /// Lets the request go to its last argument.
    pub(super) fn split(self, resolved: Option<Box<Resolved>>) -> (Subject, Last<T, E>)
    where
        E: Extraction<T>,
    {
        let Self {
            idempotency,
            content,
            extraction,
            marker,
        } = self;
        let (subject, request) = match content {
            Content::Keyless { is_safe, request } => {
                let subject = Subject::Nothing {
                    idempotency,
                    is_safe,
                };
                (subject, request)
            }
            Content::Keyed {
                mut parts,
                keys,
                body,
            } => {
                let attempt = if extraction.is_json() {
                    // Only an argument before the last can have asked.
                    parts.extensions.get::<Attempt>().cloned()
                } else {
                    Some(Attempt::of(&mut parts.extensions))
                };
                let head = Head::new(idempotency, keys, resolved, attempt, &parts);
                let request = Request::from_parts(parts, Body::from(body.clone()));
                (Subject::Request { head, body }, request)
            }
        };
        let last = Last {
            request,
            extraction,
            marker,
        };
        (subject, last)
    }
}

/// Reads a body whose limit is applied already, with the rejections of axum's own extractors.
async fn buffer(body: Body) -> Result<Bytes, Response> {
    match body::begin(body).await {
        Begun::Whole(bytes) => Ok(bytes),
        // Boxed: few requests have to make room for it.
        Begun::Partly(body) => Box::pin(read_on(body)).await,
    }
}

async fn read_on(body: Body) -> Result<Bytes, Response> {
    let mut carrier = Request::new(Body::new(body.map_err(innermost)));
    DefaultBodyLimit::disable().apply(&mut carrier);
    Bytes::from_request(carrier, &())
        .await
        .map_err(IntoResponse::into_response)
}

/// The cause of an error. Each body around another wraps its errors, and axum looks for a limit through
/// two of them only, which is as many as there are without this crate.
fn innermost(error: axum::Error) -> BoxError {
    let mut error: BoxError = error.into();
    loop {
        error = match error.downcast::<axum::Error>() {
            Ok(wrapper) => wrapper.into_inner(),
            Err(cause) => return cause,
        };
    }
}

impl<T, E, const USUAL: bool> IdempotentRequest<T, E, USUAL>
where
    T: Send + 'static,
    E: Extraction<T>,
{
    /// Runs the handler under the policy, or answers from the record.
    ///
    /// A cached replay is found before the last argument is extracted, where a rejection of
    /// that could only be about the content: the stored response would be shown in its place anyway.
    pub fn run<A, F, Fut>(
        self,
        policy: &'static Policy,
        args: A,
        handler: F,
    ) -> impl Future<Output = Response> + Send
    where
        A: Send + 'static,
        F: FnOnce(A, T) -> Fut + Send + 'static,
        Fut: Future<Output: IntoResponse> + Send + 'static,
    {
        let resolved = self.resolve(policy);
        let identified = match self.look(policy, resolved.as_deref()) {
            Ok(identified) => identified,
            Err(answer) => {
                let response = Some(answer);
                return Entry::Answer { response };
            }
        };
        let is_about_content = self.rejects_content_only();
        let (subject, last) = self.split(resolved);
        let rest = async move {
            match last.extract().await {
                Ok(last) => {
                    let handler = move || handler(args, last);
                    subject
                        .protect(policy, Inputs::new(), identified, handler)
                        .await
                }
                Err(rejection) if is_about_content => subject.reject(policy, rejection).await,
                Err(rejection) => rejection,
            }
        };
        Entry::Rest { rest }
    }

    /// As [`run`](Self::run), with expressions over the handler's arguments. They need all of these,
    /// on replays too.
    pub async fn run_with<A, I, F, Fut>(
        self,
        policy: &'static Policy,
        args: A,
        inputs: I,
        handler: F,
    ) -> Response
    where
        A: Send + 'static,
        I: FnOnce(&A, &T) -> Inputs + Send,
        F: FnOnce(A, T) -> Fut + Send + 'static,
        Fut: Future<Output: IntoResponse> + Send + 'static,
    {
        let resolved = self.resolve(policy);
        let (subject, last) = self.split(resolved);
        match last.extract().await {
            Ok(last) => {
                let inputs = inputs(&args, &last);
                let handler = move || handler(args, last);
                subject.protect(policy, inputs, None, handler).await
            }
            // The expressions that say whose key it is cannot be evaluated.
            Err(rejection) => rejection,
        }
    }

    /// Whether a rejection of the last argument gives way to a stored response.
    pub(super) fn rejects_content_only(&self) -> bool {
        self.extraction.rejects_content_only()
    }

    /// Looks for a replay before there is a last argument. Otherwise says what was found out about
    /// the request.
    #[expect(
        clippy::result_large_err,
        reason = "an answer is moved once, and is no rare error"
    )]
    fn look(
        &self,
        policy: &Policy,
        resolved: Option<&Resolved>,
    ) -> Result<Option<Identified>, Response> {
        match &self.content {
            Content::Keyed { parts, keys, body } if self.rejects_content_only() => {
                let view = View::of(&self.idempotency, keys, resolved, parts);
                view.look(&policy.or_ttl(self.idempotency.ttl()), body)
            }
            Content::Keyed { .. } | Content::Keyless { .. } => Ok(None),
        }
    }
}

pin_project! {
    /// What is left to do when it is known whether there is a cached replay.
    #[project = Entries]
    enum Entry<R> {
        Answer { response: Option<Response> },
        Rest { #[pin] rest: R },
    }
}

impl<R: Future<Output = Response>> Future for Entry<R> {
    type Output = Response;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        match self.project() {
            Entries::Answer { response } => response.take().map_or(Poll::Pending, Poll::Ready),
            Entries::Rest { rest } => rest.poll(cx),
        }
    }
}

impl Subject {
    /// `identified` is what is known already, if it is. The handler's future is made where it runs: it
    /// can be large, and would be copied from function to function.
    fn protect<H, F>(
        self,
        policy: &'static Policy,
        inputs: Inputs,
        identified: Option<Identified>,
        handler: H,
    ) -> Way<F>
    where
        H: FnOnce() -> F + Send + 'static,
        F: Future<Output: IntoResponse> + Send + 'static,
    {
        let (head, body) = match self {
            Self::Request { head, body } => (head, body),
            Self::Nothing {
                idempotency,
                is_safe,
            } => {
                return match idempotency.leave_alone(policy, is_safe, &inputs) {
                    Ok(()) => Way::Unprotected {
                        mark: Mark::None,
                        handler: Handling::new(handler),
                    },
                    Err(answer) => Way::answer(answer),
                };
            }
        };
        let resolved = policy.or_ttl(head.idempotency.ttl());
        match head.admit_now(&resolved, inputs, identified, &body) {
            Ok(admission) => head.way(admission, policy, handler),
            Err(identified) => Way::longer(async move {
                let admission = head.admit(&resolved, identified, body).await;
                head.way(admission, policy, handler).await
            }),
        }
    }

    /// What is answered when the content was rejected, and there are no expressions.
    pub(super) async fn reject(self, policy: &Policy, rejection: Response) -> Response {
        match self {
            Self::Nothing { .. } => rejection,
            Self::Request { head, body } => {
                // Boxed: few requests have to make room for it.
                Box::pin(async move {
                    let resolved = policy.or_ttl(head.idempotency.ttl());
                    head.reject(&resolved, &body, rejection).await
                })
                .await
            }
        }
    }
}

/// What is left to do about a request, once that is known: as little room as possible for what most
/// requests need, and a box for the rest.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is what most requests are, and a box would cost each of them"
)]
enum Way<F>
where
    F: Future<Output: IntoResponse> + Send + 'static,
{
    Answer(Option<Response>),
    Unprotected { mark: Mark, handler: Handling<F> },
    Protected(Detach<capture::Run<F>>),
    Longer(Pin<Box<dyn Future<Output = Response> + Send>>),
}

impl<F> Way<F>
where
    F: Future<Output: IntoResponse> + Send + 'static,
{
    fn answer(response: Response) -> Self {
        Self::Answer(Some(response))
    }

    fn longer(rest: impl Future<Output = Response> + Send + 'static) -> Self {
        Self::Longer(Box::pin(rest))
    }
}

impl<F> Future for Way<F>
where
    F: Future<Output: IntoResponse> + Send + 'static,
{
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        match &mut *self {
            Self::Answer(response) => response.take().map_or(Poll::Pending, Poll::Ready),
            Self::Unprotected { mark, handler } => {
                Pin::new(handler).poll(cx).map(|own| mark.apply(own))
            }
            Self::Protected(run) => Pin::new(run).poll(cx),
            Self::Longer(rest) => rest.as_mut().poll(cx),
        }
    }
}

impl Head {
    fn way<H, F>(self, admission: Admission, policy: &'static Policy, handler: H) -> Way<F>
    where
        H: FnOnce() -> F,
        F: Future<Output: IntoResponse> + Send + 'static,
    {
        // What is left of the request need not be kept while the handler runs.
        let Self {
            idempotency,
            attempt,
            ..
        } = self;
        match admission {
            Admission::Answer(response) => Way::answer(response),
            Admission::Unprotected(mark) => {
                if let (Mark::Degraded { record }, Some(attempt)) = (&mark, attempt) {
                    attempt.begin_degraded(*record);
                }
                let handler = Handling::new(handler);
                Way::Unprotected { mark, handler }
            }
            Admission::Run(mut held) => {
                if let Some(attempt) = attempt {
                    attempt.begin(&mut held);
                }
                let mover = idempotency.mover();
                let handler = Handling::new(handler);
                let run = capture::run(held, policy, idempotency, handler);
                Way::Protected(Detach::by(mover, run))
            }
        }
    }
}

impl<T, E, const USUAL: bool> fmt::Debug for IdempotentRequest<T, E, USUAL> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, extensions) = match &self.content {
            Content::Keyed { parts, .. } => (&parts.method, &parts.extensions),
            Content::Keyless { request, .. } => (request.method(), request.extensions()),
        };
        f.debug_struct("IdempotentRequest")
            .field("method", method)
            .field("route", &extensions.get::<MatchedPath>())
            .finish_non_exhaustive()
    }
}
