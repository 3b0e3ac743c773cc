//! Running a handler and keeping its response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use http::HeaderMap;

use super::answer;
use super::answer::{whole, with_body};
use super::body::collect;
use super::note;
use super::recorder::Recorder;
use super::release::Unstored;
use super::source::Source;
use super::stored::{compact, stored, stored_trailers};
use super::tape::{Recording, Tape};
use crate::engine::{ClaimGuard, Described};
use crate::handle::problem::ProblemCode;
use crate::handle::{IDEMPOTENCY_DEGRADED, IDEMPOTENCY_STATUS, IDEMPOTENT_REPLAYED, Idempotency};
use crate::key::RecordKey;
use crate::observer::Outcome;
use crate::policy::Policy;
use crate::unwind::{catch_unwind, text_of};

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
        self.0.as_mut().poll(cx).map(answered)
    }
}

/// A handler's answer. It is not a replay, nor unprotected, whatever it has been handed by another service.
pub(super) fn answered(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    let headers = response.headers_mut();
    // There are few headers, and it costs less to look at all than to look one up.
    if headers
        .keys()
        .any(|name| name.as_str().starts_with("idempoten"))
    {
        for mark in [
            IDEMPOTENT_REPLAYED,
            IDEMPOTENCY_DEGRADED,
            IDEMPOTENCY_STATUS,
        ] {
            headers.remove(mark);
        }
    }
    response
}

/// Runs the handler, stores what it answers, and only then answers.
///
/// Must run to its end, whatever becomes of the client: see [`Detach`](crate::engine::Detach).
pub(super) async fn run<F>(
    mut held: Box<ClaimGuard>,
    policy: &'static Policy,
    idempotency: Idempotency,
    handler: Handling<F>,
) -> Response
where
    F: Future<Output: IntoResponse>,
{
    held.begin();
    let handled = catch_unwind(handler).await;
    let panicked = |_| panicked(&idempotency, Some((held.owner().key, held.described())));
    let mut response = handled.unwrap_or_else(panicked);
    let unstored = response.extensions_mut().remove::<Unstored>().or_else(|| {
        let is_kept = policy.replay_errors.keeps(response.status().as_u16());
        (!is_kept).then_some(Unstored::Withdraw)
    });
    let answer = match unstored {
        None => return store(held, policy, idempotency, response).await,
        // Boxed: few requests have to make room for it.
        Some(Unstored::Release) => Box::pin(held.release()).await,
        Some(Unstored::Withdraw) => Box::pin(held.withdraw()).await,
    };
    answer::after_run(&idempotency, answer, response)
}

async fn store(
    held: Box<ClaimGuard>,
    policy: &Policy,
    idempotency: Idempotency,
    mut response: Response,
) -> Response {
    let mut body = Source::of(&mut response);
    let limit = policy.max_response_bytes;
    match body
        .measure(response.headers())
        .map(|length| length.exact())
    {
        Ok(Some(length)) if length <= limit as u64 => match collect(body).await {
            Ok((body, trailers)) => {
                let completion = match &trailers {
                    None => held.complete(|| compact(&idempotency, &response, Some(&body))),
                    Some(trailers) => {
                        let stored = stored(&idempotency, &response, Some(&body));
                        let trailers = stored_trailers(&idempotency, Some(trailers));
                        held.complete_later(Arc::new(stored.with_trailers(trailers)))
                    }
                };
                answer::after_run(
                    &idempotency,
                    completion.await,
                    whole(response, body, trailers),
                )
            }
            // Boxed: few requests have to make room for it.
            Err(error) => Box::pin(store_failure(held, idempotency, error)).await,
        },
        Ok(Some(_)) => {
            let completion = held.complete(|| compact(&idempotency, &response, None));
            let response = with_body(response, Body::new(body));
            answer::after_run(&idempotency, completion.await, response)
        }
        Ok(None) => Box::pin(stream(held, idempotency, response, body, limit)).await,
        Err(error) => Box::pin(store_failure(held, idempotency, error)).await,
    }
}

/// Passes a body of unknown length on as it is produced, unless the claim was lost by then: its head goes out before it is stored.
async fn stream(
    held: Box<ClaimGuard>,
    idempotency: Idempotency,
    response: Response,
    body: Source,
    limit: usize,
) -> Response {
    let instead = held.answer_instead().await;
    let recording = Recording {
        stored: stored(&idempotency, &response, None),
        idempotency: idempotency.clone(),
        held,
        limit,
        announced: body.left(),
        recorded: BytesMut::new(),
        given: 0,
        trailers: HeaderMap::new(),
    };
    let (tape, mover) = (Tape::new(body, recording), idempotency.mover());
    if let Some(answer) = instead {
        // As a whole body, it is read to its end, and offered to the store if no other answer stands.
        mover.spawn(tape.finish());
        return answer::after_run(&idempotency, answer, response);
    }
    let response = with_body(response, Body::new(Recorder::new(tape, mover)));
    note::outcome(&idempotency, response, Outcome::Pending)
}

/// What is answered for a handler that has panicked.
pub(super) fn panicked(
    idempotency: &Idempotency,
    record: Option<(RecordKey, &Described)>,
) -> Response {
    let (record, operation) = record.unzip();
    // The panic hook has printed the message; a client must not see it.
    let record = record.map(tracing::field::display);
    let name = operation.map(Described::shown);
    tracing::error!(record, operation = name, "handler panicked");
    answer::problem_to_store(idempotency, operation, ProblemCode::HandlerFailed)
}

/// The handler ran, but there is no whole response of it to send: the failure is the answer, now
/// and on every replay.
async fn store_failure(
    held: Box<ClaimGuard>,
    idempotency: Idempotency,
    error: axum::Error,
) -> Response {
    let record = held.owner().key;
    tracing::error!(%record, error = text_of(&error), "response body failed");
    let (operation, failed) = (held.described(), ProblemCode::HandlerFailed);
    let mut problem = answer::problem_to_store(&idempotency, Some(operation), failed);
    let body = Source::of(&mut problem);
    let (stored, problem) = match collect(body).await {
        Ok((body, trailers)) => {
            let stored = stored(&idempotency, &problem, Some(&body));
            (stored, whole(problem, body, trailers))
        }
        // A renderer of the application whose bodies fail as well.
        Err(_) => (stored(&idempotency, &problem, None), problem),
    };
    let answer = held.store_own(Arc::new(stored)).await;
    answer::after_run(&idempotency, answer, problem)
}
