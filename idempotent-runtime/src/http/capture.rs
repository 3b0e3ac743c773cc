//! Running a handler and keeping its response.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use http::response::Parts;
use http_body_util::{BodyExt, Collected, Full};

use super::answer::{is_bodyless, respond};
use super::attempt::Unstored;
use super::handle::Idempotency;
use super::problem::{Problem, ProblemCode};
use super::recorder::Recorder;
use crate::engine::{Answer, Held, catch_unwind};
use crate::key::RecordKey;
use crate::policy::Policy;
use crate::record::StoredResponse;

/// Runs the handler, stores what it answers, and only then answers.
///
/// Must run to its end, whatever becomes of the client: see [`Detach`](crate::engine::Detach).
pub(super) async fn run(
    held: Held,
    policy: &Policy,
    idempotency: Idempotency,
    handler: impl Future<Output = Response>,
) -> Response {
    let held = held.begin();
    let response = answered(&idempotency, Some(held.owner().key), handler).await;
    let (mut parts, body) = response.into_parts();
    let unstored = parts.extensions.remove::<Unstored>().or_else(|| {
        let is_kept = policy.store_errors.keeps(parts.status.as_u16());
        (!is_kept).then_some(Unstored::Withdraw)
    });
    let answer = match unstored {
        Some(Unstored::Release) => held.release().await,
        Some(Unstored::Withdraw) => held.withdraw().await,
        None => return store(held, policy, &idempotency, parts, body).await,
    };
    idempotency.answer(answer, Response::from_parts(parts, body))
}

/// What the handler answers, or what is answered for it when it panics.
pub(super) async fn answered(
    idempotency: &Idempotency,
    record: Option<RecordKey>,
    handler: impl Future<Output = Response>,
) -> Response {
    match catch_unwind(handler).await {
        Ok(response) => response,
        Err(_) => {
            // The panic hook has printed the message; a client must not see it.
            let record = record.map(tracing::field::display);
            tracing::error!(record, "handler panicked");
            idempotency.problem(&Problem::new(ProblemCode::HandlerFailed))
        }
    }
}

async fn store(
    held: Held,
    policy: &Policy,
    idempotency: &Idempotency,
    parts: Parts,
    body: Body,
) -> Response {
    let headers = idempotency.response_headers().apply(&parts.headers);
    let tombstone = StoredResponse::tombstone(parts.status, headers);
    // What is not sent need not be read.
    let body = if is_bodyless(parts.status) {
        Body::empty()
    } else {
        body
    };
    let limit = policy.max_response_bytes;
    match body.size_hint().exact() {
        Some(length) if length <= limit as u64 => match catch_unwind(body.collect()).await {
            Ok(Ok(body)) => store_whole(held, idempotency, tombstone, parts, body).await,
            Ok(Err(error)) => {
                tracing::error!(record = %held.owner().key, %error, "response body broke off");
                store_failure(held, idempotency).await
            }
            Err(_) => {
                tracing::error!(record = %held.owner().key, "response body panicked");
                store_failure(held, idempotency).await
            }
        },
        Some(_) => {
            let answer = held.complete(Arc::new(tombstone)).await;
            idempotency.answer(answer, Response::from_parts(parts, body))
        }
        None => {
            let recorder =
                Recorder::new(body, held, tombstone, limit, idempotency.engine().tasks());
            Response::from_parts(parts, Body::new(recorder))
        }
    }
}

async fn store_whole(
    held: Held,
    idempotency: &Idempotency,
    tombstone: StoredResponse,
    parts: Parts,
    body: Collected<Bytes>,
) -> Response {
    let trailers = body.trailers().cloned();
    let body = body.to_bytes();
    let stored = StoredResponse {
        body: Some(body.clone()),
        ..tombstone
    };
    let answer = held.complete(Arc::new(stored)).await;
    idempotency.answer(answer, whole(parts, body, trailers))
}

/// The handler's own response, put together again.
pub(super) fn whole(mut parts: Parts, body: Bytes, trailers: Option<HeaderMap>) -> Response {
    // Trailers are for whoever is there to get them; a replay has none.
    let body = match trailers {
        None => Body::from(body),
        Some(trailers) => {
            Body::new(Full::new(body).with_trailers(std::future::ready(Some(Ok(trailers)))))
        }
    };
    let mut own = respond(parts.status, std::mem::take(&mut parts.headers), body);
    *own.extensions_mut() = parts.extensions;
    own
}

/// The handler ran, but there is no whole response of it to send: the failure is the answer, now
/// and on every replay.
async fn store_failure(held: Held, idempotency: &Idempotency) -> Response {
    let problem = idempotency.problem(&Problem::new(ProblemCode::HandlerFailed));
    let (parts, body) = problem.into_parts();
    let headers = idempotency.response_headers().apply(&parts.headers);
    let tombstone = StoredResponse::tombstone(parts.status, headers);
    match body.collect().await {
        Ok(body) => store_whole(held, idempotency, tombstone, parts, body).await,
        // A renderer of the application whose bodies fail as well.
        Err(_) => {
            let answer = held.complete(Arc::new(tombstone)).await;
            idempotency.answer(answer, Response::from_parts(parts, Body::empty()))
        }
    }
}

impl Idempotency {
    /// Who has lost its claim answers from the record, never from its own result: all answers for
    /// a key are equal.
    pub(super) fn answer(&self, answer: Answer, own: Response) -> Response {
        match answer {
            Answer::Own => own,
            Answer::Stored(stored) => self.replay(&stored),
            Answer::InFlight { lease_left } => self.in_flight(lease_left),
            Answer::Unknown => self.problem(&Problem::new(ProblemCode::OutcomeUnknown)),
        }
    }
}
