//! Running a handler and keeping its response.

use std::any::Any;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, Full};

use super::answer::{is_bodyless, with_body};
use super::attempt::Unstored;
use super::body::collect;
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
    mut held: Held,
    policy: &Policy,
    idempotency: Idempotency,
    handler: impl Future<Output = Response>,
) -> Response {
    held.begin();
    let mut response = match catch_unwind(handler).await {
        Ok(response) => response,
        Err(_) => panicked(&idempotency, Some(held.owner().key)),
    };
    // What most responses are: kept, and of a known length that is not too large. Anything else is
    // boxed, so that these need not make room for it.
    if !is_plain(&response, policy) {
        return Box::pin(settle(held, policy, idempotency, response)).await;
    }
    let body = std::mem::take(response.body_mut());
    match catch_unwind(collect(body)).await {
        Ok(Ok((body, trailers))) => {
            let stored = idempotency.stored(&response, Some(body.clone()));
            let own = whole(response, body, trailers);
            let answer = held.complete(Arc::new(stored)).await;
            idempotency.answer(answer, own)
        }
        broken => Box::pin(store_failure(held, idempotency, broken)).await,
    }
}

fn is_plain(response: &Response, policy: &Policy) -> bool {
    let length = if is_bodyless(response.status()) {
        // What is not sent is not read either.
        None
    } else {
        response.body().size_hint().exact()
    };
    policy.store_errors.keeps(response.status().as_u16())
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

async fn settle(
    held: Held,
    policy: &Policy,
    idempotency: Idempotency,
    mut response: Response,
) -> Response {
    let unstored = response.extensions_mut().remove::<Unstored>().or_else(|| {
        let is_kept = policy.store_errors.keeps(response.status().as_u16());
        (!is_kept).then_some(Unstored::Withdraw)
    });
    let answer = match unstored {
        Some(Unstored::Release) => held.release().await,
        Some(Unstored::Withdraw) => held.withdraw().await,
        None if is_bodyless(response.status()) => {
            let stored = idempotency.stored(&response, Some(Bytes::new()));
            response = whole(response, Bytes::new(), None);
            held.complete(Arc::new(stored)).await
        }
        None => {
            let tombstone = idempotency.stored(&response, None);
            if response.body().size_hint().exact().is_none() {
                let (limit, tasks) = (policy.max_response_bytes, idempotency.engine().tasks());
                return response
                    .map(|body| Body::new(Recorder::new(body, held, tombstone, limit, tasks)));
            }
            // It is too large.
            held.complete(Arc::new(tombstone)).await
        }
    };
    idempotency.answer(answer, response)
}

/// The handler's own response, put together again.
pub(super) fn whole(response: Response, body: Bytes, trailers: Option<HeaderMap>) -> Response {
    // Trailers are for whoever is there to get them; a replay has none.
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
            let stored = idempotency.stored(&problem, Some(body.clone()));
            (stored, whole(problem, body, trailers))
        }
        // A renderer of the application whose bodies fail as well.
        Err(_) => (idempotency.stored(&problem, None), problem),
    };
    let answer = held.complete(Arc::new(stored)).await;
    idempotency.answer(answer, problem)
}

impl Idempotency {
    /// What is stored of a response: without a body it is a tombstone.
    pub(super) fn stored(&self, response: &Response, body: Option<Bytes>) -> StoredResponse {
        let headers = self.response_headers().apply(response.headers());
        StoredResponse {
            body,
            ..StoredResponse::tombstone(response.status(), headers)
        }
    }

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
