//! Running a handler and keeping its response.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http::response::Parts;
use http_body_util::BodyExt;

use super::answer::respond;
use super::attempt::NotStored;
use super::handle::Idempotency;
use super::problem::{Problem, ProblemCode};
use super::recorder::Recorder;
use crate::engine::{Answer, Held, catch_unwind};
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
    let response = match catch_unwind(handler).await {
        Ok(response) => response,
        Err(_) => {
            // The panic hook has printed the message; a client must not see it.
            tracing::error!(record = %held.owner().key, "handler panicked");
            idempotency.problem(&Problem::new(ProblemCode::HandlerFailed))
        }
    };
    let (mut parts, body) = response.into_parts();
    let released = parts.extensions.remove::<NotStored>().is_some();
    if released || !policy.store_errors.keeps(parts.status.as_u16()) {
        let own = Response::from_parts(parts, body);
        return idempotency.answer(held.release().await, own);
    }
    store(held, policy, &idempotency, parts, body).await
}

async fn store(
    held: Held,
    policy: &Policy,
    idempotency: &Idempotency,
    parts: Parts,
    body: Body,
) -> Response {
    let stored = StoredResponse {
        status: parts.status.as_u16(),
        headers: idempotency.response_headers().apply(&parts.headers),
        body: None,
    };
    let limit = policy.max_response_bytes;
    match body.size_hint().exact() {
        Some(length) if length <= limit as u64 => match body.collect().await {
            Ok(body) => store_whole(held, idempotency, stored, parts, body.to_bytes()).await,
            Err(error) => {
                tracing::error!(record = %held.owner().key, %error, "response body broke off");
                store_failure(held, idempotency).await
            }
        },
        Some(_) => {
            let answer = held.complete(Arc::new(stored)).await;
            idempotency.answer(answer, Response::from_parts(parts, body))
        }
        None => {
            let tasks = idempotency.engine().tasks().clone();
            let recorder = Recorder::new(body, held, stored, limit, tasks);
            Response::from_parts(parts, Body::new(recorder))
        }
    }
}

async fn store_whole(
    held: Held,
    idempotency: &Idempotency,
    stored: StoredResponse,
    mut parts: Parts,
    body: Bytes,
) -> Response {
    let stored = StoredResponse {
        body: Some(body.clone()),
        ..stored
    };
    let answer = held.complete(Arc::new(stored)).await;
    let mut own = respond(parts.status, std::mem::take(&mut parts.headers), body);
    *own.extensions_mut() = parts.extensions;
    idempotency.answer(answer, own)
}

/// The handler ran, but there is no whole response of it to send: the failure is the answer, now
/// and on every replay.
async fn store_failure(held: Held, idempotency: &Idempotency) -> Response {
    let problem = idempotency.problem(&Problem::new(ProblemCode::HandlerFailed));
    let (parts, body) = problem.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let stored = StoredResponse {
        status: StatusCode::INTERNAL_SERVER_ERROR.as_u16(),
        headers: idempotency.response_headers().apply(&parts.headers),
        body: None,
    };
    store_whole(held, idempotency, stored, parts, body).await
}

impl Idempotency {
    /// Who has lost its claim answers from the record, never from its own result: all answers for
    /// a key are equal.
    fn answer(&self, answer: Answer, own: Response) -> Response {
        match answer {
            Answer::Own => own,
            Answer::Stored(stored) => self.replay(&stored),
            Answer::InFlight { lease_left } => self.in_flight(lease_left),
            Answer::Unknown => self.problem(&Problem::new(ProblemCode::OutcomeUnknown)),
        }
    }
}
