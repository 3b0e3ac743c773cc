//! Running a handler and keeping its response.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt, Full};

use super::answer::{is_bodyless, with_body};
use super::attempt::Unstored;
use super::body::{self, Begun, collect};
use super::handle::Idempotency;
use super::problem::{Problem, ProblemCode};
use super::recorder::{Recorder, Recording};
use crate::engine::{Answer, CatchUnwind, Held, catch_unwind};
use crate::key::RecordKey;
use crate::policy::Policy;
use crate::record::{CompactResponse, StoredResponse};

/// The handler's future, in a box of its own: however large it is, it is made there, and nothing that
/// holds it is large.
pub(super) struct Handling<F>(Pin<Box<F>>);

impl<F> Handling<F> {
    /// Makes the future by `handler`, which is small, in the last moment.
    pub(super) fn new(handler: impl FnOnce() -> F) -> Self {
        Self(Box::pin(handler()))
    }
}

impl<F: Future<Output: IntoResponse>> Future for Handling<F> {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        self.0.as_mut().poll(cx).map(IntoResponse::into_response)
    }
}

/// Runs the handler, stores what it answers, and only then answers.
///
/// Must run to its end, whatever becomes of the client: see [`Detach`](crate::engine::Detach).
pub(super) fn run<F>(
    held: Held,
    policy: &'static Policy,
    idempotency: Idempotency,
    handler: Handling<F>,
) -> Run<F>
where
    F: Future<Output: IntoResponse>,
{
    Run::Handling {
        handler: catch_unwind(handler),
        claim: Some(Claim {
            held,
            policy,
            idempotency,
        }),
    }
}

/// A state machine made by hand: it is as large as what the handler has claimed, and the rest is boxed
/// if there is one. Of an `async fn` every request would carry all of it around.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is what every request is at first"
)]
pub(super) enum Run<F> {
    Handling {
        handler: CatchUnwind<Handling<F>>,
        claim: Option<Claim>,
    },
    Settling(Settling),
}

/// What is settled when the handler is done.
pub(super) struct Claim {
    held: Held,
    policy: &'static Policy,
    idempotency: Idempotency,
}

type Settling = Pin<Box<dyn Future<Output = Response> + Send>>;

impl<F: Future<Output: IntoResponse>> Future for Run<F> {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        loop {
            let (handler, claim) = match &mut *self {
                Self::Handling { handler, claim } => (handler, claim),
                Self::Settling(rest) => return rest.as_mut().poll(cx),
            };
            if let Some(claim) = claim {
                claim.held.begin();
            }
            let handled = ready!(Pin::new(handler).poll(cx));
            let Some(claim) = claim.take() else {
                // Polled again after its end.
                return Poll::Pending;
            };
            let response = handled
                .unwrap_or_else(|_| panicked(&claim.idempotency, Some(claim.held.owner().key)));
            match claim.settle_now(response, cx) {
                Ok(answer) => return Poll::Ready(answer),
                Err(rest) => *self = Self::Settling(rest),
            }
        }
    }
}

impl Claim {
    /// The answer, where nothing has to be waited for: most bodies are there in one piece, and a store
    /// may be in this process. Otherwise what is left to do.
    fn settle_now(self, response: Response, cx: &mut Context<'_>) -> Result<Response, Settling> {
        if !is_plain(&response, self.policy) {
            return Err(Box::pin(self.settle(response)));
        }
        let (parts, body) = response.into_parts();
        let body = match body::begin_now(body, cx) {
            Begun::Whole(body) => body,
            Begun::Partly(body) => {
                return Err(Box::pin(self.settle(Response::from_parts(parts, body))));
            }
        };
        let response = Response::from_parts(parts, Body::empty());
        let compact = || self.idempotency.compact(&response, Some(&body));
        if self.held.complete_now(compact) {
            return Ok(whole(response, body, None));
        }
        let stored = Arc::new(self.idempotency.stored(&response, Some(&body)));
        let own = whole(response, body, None);
        let Self {
            held, idempotency, ..
        } = self;
        Err(Box::pin(async move {
            let answer = held.complete(stored).await;
            idempotency.answer(answer, own)
        }))
    }

    async fn settle(self, mut response: Response) -> Response {
        let Self {
            held,
            policy,
            idempotency,
        } = self;
        let unstored = response.extensions_mut().remove::<Unstored>().or_else(|| {
            let is_kept = policy.replay_errors.keeps(response.status().as_u16());
            (!is_kept).then_some(Unstored::Withdraw)
        });
        let answer = match unstored {
            Some(Unstored::Release) => held.release().await,
            Some(Unstored::Withdraw) => held.withdraw().await,
            None => return store(held, policy, idempotency, response).await,
        };
        idempotency.answer(answer, response)
    }
}

async fn store(
    held: Held,
    policy: &Policy,
    idempotency: Idempotency,
    mut response: Response,
) -> Response {
    // What is not sent is not read either.
    let body = if is_bodyless(response.status()) {
        Body::empty()
    } else {
        std::mem::take(response.body_mut())
    };
    let limit = policy.max_response_bytes;
    match body.size_hint().exact() {
        Some(length) if length <= limit as u64 => match catch_unwind(collect(body)).await {
            Ok(Ok((body, trailers))) => {
                let stored = idempotency.stored(&response, Some(&body));
                let stored = stored.with_trailers(idempotency.stored_trailers(trailers.as_ref()));
                let answer = held.complete(Arc::new(stored)).await;
                idempotency.answer(answer, whole(response, body, trailers))
            }
            broken => store_failure(held, idempotency, broken).await,
        },
        Some(_) => {
            let tombstone = idempotency.stored(&response, None);
            let answer = held.complete(Arc::new(tombstone)).await;
            idempotency.answer(answer, with_body(response, body))
        }
        None => {
            let recording = Recording {
                stored: idempotency.stored(&response, None),
                idempotency: idempotency.clone(),
                held,
                limit,
                announced: announced_length(&response),
                kept: BytesMut::new(),
                trailers: HeaderMap::new(),
            };
            let recorder = Recorder::new(body, recording, idempotency.mover());
            with_body(response, Body::new(recorder))
        }
    }
}

/// The length that the handler says its body has, where the body itself does not know.
fn announced_length(response: &Response) -> Option<u64> {
    let length = response.headers().get(CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// Whether it is kept, and of a known length that is not too large.
fn is_plain(response: &Response, policy: &Policy) -> bool {
    let length = response.body().size_hint().exact();
    policy.replay_errors.keeps(response.status().as_u16())
        && !is_bodyless(response.status())
        && response.extensions().get::<Unstored>().is_none()
        && length.is_some_and(|length| length <= policy.max_response_bytes as u64)
}

/// What is answered for a handler that has panicked.
pub(super) fn panicked(idempotency: &Idempotency, record: Option<RecordKey>) -> Response {
    // The panic hook has printed the message; a client must not see it.
    let record = record.map(tracing::field::display);
    tracing::error!(record, "handler panicked");
    idempotency.problem(&Problem::new(ProblemCode::HandlerFailed))
}

/// The handler's own response, put together again.
pub(super) fn whole(response: Response, body: Bytes, trailers: Option<HeaderMap>) -> Response {
    let body = match trailers {
        None => Body::from(body),
        Some(trailers) => {
            Body::new(Full::new(body).with_trailers(std::future::ready(Some(Ok(trailers)))))
        }
    };
    with_body(response, body)
}

/// What came of a handler's body: it broke off, or it panicked.
type Broken = Result<Result<(Bytes, Option<HeaderMap>), axum::Error>, Box<dyn Any + Send>>;

/// The handler ran, but there is no whole response of it to send: the failure is the answer, now
/// and on every replay.
async fn store_failure(held: Held, idempotency: Idempotency, broken: Broken) -> Response {
    let record = held.owner().key;
    match broken {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::error!(%record, %error, "response body broke off"),
        Err(_) => tracing::error!(%record, "response body panicked"),
    }
    let mut problem = idempotency.problem(&Problem::new(ProblemCode::HandlerFailed));
    let body = std::mem::take(problem.body_mut());
    let (stored, problem) = match collect(body).await {
        Ok((body, trailers)) => {
            let stored = idempotency.stored(&problem, Some(&body));
            (stored, whole(problem, body, trailers))
        }
        // A renderer of the application whose bodies fail as well.
        Err(_) => (idempotency.stored(&problem, None), problem),
    };
    let answer = held.complete(Arc::new(stored)).await;
    idempotency.answer(answer, problem)
}

impl Idempotency {
    /// What is stored of a response: without a body it is a tombstone. It is a copy, because it can be
    /// kept for long, and what the handler has made can share its memory with much more.
    pub(super) fn stored(&self, response: &Response, body: Option<&[u8]>) -> StoredResponse {
        self.compact(response, body).response()
    }

    /// What is stored of trailers, by the same rules as for headers; a copy likewise.
    pub(super) fn stored_trailers(&self, trailers: Option<&HeaderMap>) -> HeaderMap {
        let Some(trailers) = trailers else {
            return HeaderMap::new();
        };
        let trailers = self.stored_headers().stored(trailers);
        CompactResponse::new(0, trailers, None).response().headers
    }

    fn compact(&self, response: &Response, body: Option<&[u8]>) -> CompactResponse {
        let headers = self.stored_headers().stored(response.headers());
        CompactResponse::new(response.status().as_u16(), headers, body)
    }

    /// Who has lost its claim answers from the record, never from its own result: all answers for
    /// a key are equal.
    pub(super) fn answer(&self, answer: Answer, own: Response) -> Response {
        match answer {
            Answer::Own => own,
            Answer::Stored(stored) => self.replay(stored),
            Answer::InFlight { lease_left } => self.in_flight(lease_left),
            Answer::Unknown => self.problem(&Problem::new(ProblemCode::OutcomeUnknown)),
        }
    }
}
