//! The last argument of a handler, wrapped: where the attribute meets axum.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::RequestExt;
use axum::body::{Body, HttpBody};
use axum::extract::{DefaultBodyLimit, FromRef, FromRequest, MatchedPath, OriginalUri, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

use super::admission::{Admission, Mark};
use super::body::{self, Begun};
use super::capture;
use super::{Attempt, Idempotency, Inputs};
use crate::engine::Detach;
use crate::key::InvalidKey;
use crate::policy::Policy;

/// A request whose last argument is extracted, and about which nothing is decided yet.
///
/// `M` is axum's marker for the two kinds of extractors; it is inferred. `USUAL` says that the key is in
/// the `Idempotency-Key` header, so that a request without that header needs no protection.
pub struct IdempotentRequest<T, M, const USUAL: bool = true> {
    pub(super) subject: Subject,
    pub(super) extracted: Result<T, Response>,
    marker: PhantomData<fn() -> M>,
}

/// What there is to protect.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is what most requests are, and a box would cost each of them"
)]
pub(super) enum Subject {
    /// Nothing: the request is safe, or has no key.
    Nothing {
        idempotency: Idempotency,
        is_safe: bool,
    },
    /// What the request is about. Its body is buffered.
    Request { head: Head, body: Bytes },
}

/// What identifies a request, kept while the rest goes to the handler's own extractor.
pub(super) struct Head {
    pub(super) idempotency: Idempotency,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) route: Option<MatchedPath>,
    pub(super) keys: Keys,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) scope: Inputs,
    pub(super) attempt: Attempt,
}

/// The headers that a key may be in.
pub(super) enum Keys {
    /// The usual one came once.
    One(HeaderValue),
    /// The usual one came more than once.
    Repeated,
    /// Which one it is, the policy says.
    Somewhere(HeaderMap),
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

impl Keys {
    fn of(headers: &HeaderMap, is_usual: bool) -> Option<Self> {
        if !is_usual {
            return Some(Self::Somewhere(headers.clone()));
        }
        let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
        let first = values.next()?;
        Some(match values.next() {
            None => Self::One(first.clone()),
            Some(_) => Self::Repeated,
        })
    }

    /// The value of the policy's header, if there is one.
    pub(super) fn get(&self, policy: &Policy) -> Result<Option<&HeaderValue>, InvalidKey> {
        match self {
            Self::One(value) => Ok(Some(value)),
            Self::Repeated => Err(InvalidKey::Repeated),
            Self::Somewhere(headers) => {
                let mut values = headers.get_all(policy.header).iter();
                match (values.next(), values.next()) {
                    (value, None) => Ok(value),
                    (_, Some(_)) => Err(InvalidKey::Repeated),
                }
            }
        }
    }
}

impl<S, T, M, const USUAL: bool> FromRequest<S> for IdempotentRequest<T, M, USUAL>
where
    S: Send + Sync,
    T: FromRequest<S, M>,
    Idempotency: FromRef<S>,
{
    type Rejection = Response;

    fn from_request(
        request: Request,
        state: &S,
    ) -> impl Future<Output = Result<Self, Response>> + Send {
        Self::extract(Idempotency::from_ref(state), request, state)
    }
}

impl<T, M, const USUAL: bool> IdempotentRequest<T, M, USUAL> {
    pub(super) async fn extract<S>(
        idempotency: Idempotency,
        request: Request,
        state: &S,
    ) -> Result<Self, Response>
    where
        S: Send + Sync,
        T: FromRequest<S, M>,
    {
        // GET, HEAD, OPTIONS and TRACE are idempotent by themselves (RFC 9110, section 9.2.2).
        let is_safe = request.method().is_safe();
        let keys = if is_safe {
            None
        } else {
            Keys::of(request.headers(), USUAL)
        };
        let (subject, extracting) = match keys {
            None => {
                let subject = Subject::Nothing {
                    idempotency,
                    is_safe,
                };
                (subject, T::from_request(request, state))
            }
            Some(keys) => {
                let (mut parts, body) = request.with_limited_body().into_parts();
                let body = buffer(body).await?;
                let head = Head::new(idempotency, keys, &mut parts);
                let handed = Handed {
                    bytes: Some(body.clone()),
                    attempt: head.attempt.clone(),
                };
                let request = Request::from_parts(parts, Body::new(handed));
                let subject = Subject::Request { head, body };
                (subject, T::from_request(request, state))
            }
        };
        let extracted = extracting.await.map_err(IntoResponse::into_response);
        Ok(Self {
            subject,
            extracted,
            marker: PhantomData,
        })
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
    let mut carrier = Request::new(body);
    DefaultBodyLimit::disable().apply(&mut carrier);
    Bytes::from_request(carrier, &())
        .await
        .map_err(IntoResponse::into_response)
}

impl Head {
    fn new(idempotency: Idempotency, keys: Keys, parts: &mut Parts) -> Self {
        Self {
            keys,
            scope: idempotency.resolve_scope(parts),
            attempt: Attempt::of(&mut parts.extensions),
            // In a nested router `uri` has lost its prefix.
            uri: match parts.extensions.get::<OriginalUri>() {
                Some(OriginalUri(uri)) => uri.clone(),
                None => parts.uri.clone(),
            },
            route: parts.extensions.get::<MatchedPath>().cloned(),
            method: parts.method.clone(),
            content_type: parts.headers.get(CONTENT_TYPE).cloned(),
            idempotency,
        }
    }
}

impl<T, M, const USUAL: bool> IdempotentRequest<T, M, USUAL> {
    /// Runs the handler under the policy, or answers from the record.
    pub fn run<A, F, Fut>(
        self,
        policy: &'static Policy,
        args: A,
        handler: F,
    ) -> impl Future<Output = Response> + Send
    where
        A: Send + 'static,
        T: Send + 'static,
        F: FnOnce(A, T) -> Fut + Send + 'static,
        Fut: Future<Output: IntoResponse> + Send + 'static,
    {
        self.protect(policy, Some(Inputs::new()), args, handler)
    }

    /// As [`run`](Self::run), with expressions over the handler's arguments.
    pub fn run_with<A, I, F, Fut>(
        self,
        policy: &'static Policy,
        args: A,
        inputs: I,
        handler: F,
    ) -> impl Future<Output = Response> + Send
    where
        A: Send + 'static,
        T: Send + 'static,
        I: FnOnce(&A, &T) -> Inputs,
        F: FnOnce(A, T) -> Fut + Send + 'static,
        Fut: Future<Output: IntoResponse> + Send + 'static,
    {
        let inputs = self.extracted.as_ref().ok().map(|last| inputs(&args, last));
        self.protect(policy, inputs, args, handler)
    }

    /// `inputs` is `None` when the last argument was rejected and there are expressions, which
    /// cannot be evaluated then.
    fn protect<A, F, Fut>(
        self,
        policy: &'static Policy,
        inputs: Option<Inputs>,
        args: A,
        handler: F,
    ) -> impl Future<Output = Response> + Send
    where
        A: Send + 'static,
        T: Send + 'static,
        F: FnOnce(A, T) -> Fut + Send + 'static,
        Fut: Future<Output: IntoResponse> + Send + 'static,
    {
        let last = match self.extracted {
            Ok(last) => last,
            Err(rejection) => {
                return match self.subject {
                    Subject::Nothing { .. } => Way::answer(rejection),
                    Subject::Request { head, body } => Way::longer(async move {
                        let resolved = policy.or_ttl(head.idempotency.ttl());
                        head.reject(&resolved, inputs, &body, rejection).await
                    }),
                };
            }
        };
        let inputs = inputs.unwrap_or_default();
        let handler = async move { handler(args, last).await.into_response() };
        let (head, body) = match self.subject {
            Subject::Request { head, body } => (head, body),
            Subject::Nothing {
                idempotency,
                is_safe,
            } => {
                return match idempotency.leave_alone(policy, is_safe, &inputs) {
                    Ok(()) => Way::Unprotected {
                        mark: Mark::None,
                        handler,
                    },
                    Err(answer) => Way::answer(answer),
                };
            }
        };
        let resolved = policy.or_ttl(head.idempotency.ttl());
        match head.admit_now(&resolved, inputs, &body) {
            Ok(admission) => head.way(admission, policy, handler),
            Err(identified) => Way::longer(async move {
                let admission = head.admit(&resolved, identified, body).await;
                head.way(admission, policy, handler).await
            }),
        }
    }
}

pin_project! {
    /// What is left to do about a request, once that is known: as little room as possible for what
    /// most requests need, and a box for the rest.
    #[project = Ways]
    enum Way<H> {
        Answer { response: Option<Response> },
        Unprotected { mark: Mark, #[pin] handler: H },
        Protected { run: Detach<Response> },
        Longer { rest: Pin<Box<dyn Future<Output = Response> + Send>> },
    }
}

impl<H> Way<H> {
    fn answer(response: Response) -> Self {
        let response = Some(response);
        Self::Answer { response }
    }

    fn longer(rest: impl Future<Output = Response> + Send + 'static) -> Self {
        Self::Longer {
            rest: Box::pin(rest),
        }
    }
}

impl<H: Future<Output = Response>> Future for Way<H> {
    type Output = Response;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        match self.project() {
            Ways::Answer { response } => response.take().map_or(Poll::Pending, Poll::Ready),
            Ways::Unprotected { mark, handler } => handler.poll(cx).map(|own| mark.apply(own)),
            Ways::Protected { run } => Pin::new(run).poll(cx),
            Ways::Longer { rest } => rest.as_mut().poll(cx),
        }
    }
}

impl Head {
    fn way<H>(self, admission: Admission, policy: &'static Policy, handler: H) -> Way<H>
    where
        H: Future<Output = Response> + Send + 'static,
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
                if let Mark::Degraded { record } = mark {
                    attempt.begin_degraded(record);
                }
                Way::Unprotected { mark, handler }
            }
            Admission::Run(held) => {
                attempt.begin(&held);
                let tasks = idempotency.engine().tasks().clone();
                let run = capture::run(held, policy, idempotency, handler);
                Way::Protected {
                    run: Detach::new(&tasks, run),
                }
            }
        }
    }
}

/// The buffered body on its way to the last argument's extractor, which tells whether it was read.
struct Handed {
    bytes: Option<Bytes>,
    attempt: Attempt,
}

impl HttpBody for Handed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.attempt.note_body_read();
        let bytes = self.bytes.take().filter(|bytes| !bytes.is_empty());
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

impl Head {
    /// The operation, in pieces: stable over renames of functions, the same on every instance.
    pub(super) fn operation(&self, policy: &Policy) -> [&str; 3] {
        match (policy.name, &self.route) {
            (Some(name), _) => [name, "", ""],
            (None, Some(route)) => [self.method.as_str(), " ", route.as_str()],
            // A fallback handler has no route.
            (None, None) => [self.method.as_str(), " ", self.uri.path()],
        }
    }

    pub(super) fn path_and_query(&self) -> &str {
        self.uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str)
    }
}

impl<T, M, const USUAL: bool> fmt::Debug for IdempotentRequest<T, M, USUAL> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("IdempotentRequest");
        if let Subject::Request { head, .. } = &self.subject {
            debug
                .field("method", &head.method)
                .field("route", &head.route);
        }
        debug.finish_non_exhaustive()
    }
}
