//! Answers that do not come from a handler.

use std::ops::ControlFlow::{self, Break, Continue};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::StreamBody;

use super::body;
use super::note;
use super::source::is_bodyless;
use crate::engine::{Answer, Described, Refusal};
use crate::handle::Idempotency;
use crate::handle::problem::{Problem, ProblemCode};
use crate::handle::{IDEMPOTENCY_DEGRADED, IDEMPOTENT_REPLAYED};
use crate::key::RecordKey;
use crate::observer::Outcome;
use crate::record::StoredResponse;
use crate::store::Claim;

/// Headers that describe a body, and so do not describe the problem that takes its place.
static BODY_HEADERS: [HeaderName; 11] = [
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_RANGE,
    header::CONTENT_DISPOSITION,
    header::ETAG,
    header::LAST_MODIFIED,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

/// With more headers than this a response is not retained: a map that can hold no more panics when a replay, a layer or the
/// server adds to it. It can hold 24,576.
const MOST_HEADERS: usize = 20_000;

/// The stored response, marked as a replay.
pub(super) fn replay(idempotency: &Idempotency, stored: Arc<StoredResponse>) -> Response {
    // Most are this replay's own, and need not be copied.
    let mut stored = Arc::unwrap_or_clone(stored);
    let trailers = stored.take_trailers();
    let trace_context = stored.trace_context().map(Box::from);
    if stored.headers.len() > MOST_HEADERS {
        stored = stored.status_only();
    }
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match stored.body {
        Some(body) => match trailers {
            None => respond(status, stored.headers, body),
            Some(trailers) => with_trailers(respond(status, stored.headers, body), trailers),
        },
        None => {
            let head = respond(status, stored.headers, Body::empty());
            without_body(idempotency, head)
        }
    };
    let marker = HeaderValue::from_static("true");
    response.headers_mut().insert(IDEMPOTENT_REPLAYED, marker);
    let mut response = note::outcome(idempotency, response, Outcome::Replayed);
    if trace_context.is_some() {
        note::trace_context(&mut response, trace_context);
    }
    response
}

/// A problem in the place of a body that is not there.
pub(super) fn without_body(idempotency: &Idempotency, head: Response) -> Response {
    let problem = Problem::new(ProblemCode::ResponseNotRetained);
    let problem = problem.with_status(head.status());
    put_problem(idempotency, head, &problem)
}

pub(super) fn in_flight(idempotency: &Idempotency, lease_left: Duration) -> Response {
    let pause = idempotency.retry_after().min(lease_left);
    problem(
        idempotency,
        &Problem::new(ProblemCode::InFlight).retry_after(pause),
    )
}

/// Nothing has run, because too much runs in the background.
pub(super) fn overloaded(idempotency: &Idempotency) -> Response {
    let overloaded = Problem::new(ProblemCode::Overloaded);
    problem(idempotency, &overloaded.retry_after(Duration::from_secs(1)))
}

/// Nothing has run, or nothing that ran has happened.
pub(super) fn refuse(idempotency: &Idempotency, refusal: &Refusal) -> Response {
    let code = match refusal {
        Refusal::KeyExpired => return problem(idempotency, &Problem::new(ProblemCode::KeyExpired)),
        Refusal::ShuttingDown => ProblemCode::ShuttingDown,
        Refusal::Store(_) | Refusal::NoToken(_) | Refusal::InUse(_) => {
            tracing::error!(
                error = refusal as &dyn std::error::Error,
                "the store failed: answered 503, and nothing was done"
            );
            ProblemCode::StoreUnavailable
        }
    };
    problem(
        idempotency,
        &Problem::new(code).retry_after(Duration::from_secs(1)),
    )
}

/// The handler has run, and what it has written was taken back. `record` is what would have been written with it, if anything.
pub(super) fn rolled_back(
    idempotency: &Idempotency,
    record: Option<(RecordKey, &Described)>,
    why: &'static str,
) -> Response {
    let detail = match record {
        Some(_) => {
            "Nothing was done this time, because the transaction of this request was rolled back. Retry with the same key."
        }
        None => {
            "Nothing was done this time, because the transaction of this request was rolled back."
        }
    };
    let (record, operation) = record.unzip();
    let (record, operation) = (
        record.map(tracing::field::display),
        operation.map(Described::shown),
    );
    tracing::error!(
        record,
        operation,
        why,
        "a handler's transaction was rolled back: answered 503, and nothing was done"
    );
    let rolled_back = Problem::new(ProblemCode::StoreUnavailable).with_detail(detail);
    problem(
        idempotency,
        &rolled_back.retry_after(Duration::from_secs(1)),
    )
}

pub(super) fn problem(idempotency: &Idempotency, problem: &Problem) -> Response {
    let outcome = Outcome::Problem(problem.code());
    let response = note::outcome(idempotency, Response::default(), outcome);
    put_problem(idempotency, response, problem)
}

/// Gives an answer its problem. The application's own renderer is told the operation, which is known at the end.
fn put_problem(idempotency: &Idempotency, mut head: Response, problem: &Problem) -> Response {
    if idempotency.problems().are_rendered_by_application() {
        note::problem(idempotency, &mut head, problem);
        return head;
    }
    rendered(idempotency, problem, head)
}

/// The problem as it goes into a record: it is rendered here and now.
pub(super) fn problem_to_store(
    idempotency: &Idempotency,
    operation: Option<&Described>,
    code: ProblemCode,
) -> Response {
    let mut problem = Problem::new(code);
    if let Some(operation) = operation {
        problem = problem.of_operation(operation.shown());
    }
    let response = idempotency.problems().render(&problem);
    note::outcome(idempotency, response, Outcome::Problem(code))
}

/// The problem as a response, with what is on the answer already.
pub(super) fn rendered(idempotency: &Idempotency, problem: &Problem, head: Response) -> Response {
    let response = idempotency.problems().render(problem);
    if problem.code() == ProblemCode::ResponseNotRetained {
        return not_retained(head, response);
    }
    let (mut parts, body) = response.into_parts();
    parts.extensions.extend(head.into_parts().0.extensions);
    Response::from_parts(parts, body)
}

/// Status and headers as stored, and a problem for a body.
fn not_retained(head: Response, problem: Response) -> Response {
    let (mut parts, _) = head.into_parts();
    let (mut of_problem, body) = problem.into_parts();
    for name in &BODY_HEADERS {
        parts.headers.remove(name);
    }
    if let Some(content_type) = of_problem.headers.remove(header::CONTENT_TYPE) {
        parts.headers.insert(header::CONTENT_TYPE, content_type);
    }
    if let Some(link) = of_problem.headers.remove(header::LINK) {
        parts.headers.append(header::LINK, link);
    }
    parts.extensions.extend(of_problem.extensions);
    with_body(Response::from_parts(parts, Body::empty()), body)
}

/// What a request is answered by the state of its record, or what its owner goes on with.
pub(super) fn decided<A>(idempotency: &Idempotency, claim: Claim<A>) -> ControlFlow<Response, A> {
    let code = match claim {
        Claim::Acquired(owner) => return Continue(owner),
        Claim::Completed(stored) => return Break(replay(idempotency, stored)),
        Claim::InFlight { lease_left } => return Break(in_flight(idempotency, lease_left)),
        Claim::Abandoned { .. } => ProblemCode::OutcomeUnknown,
        Claim::Mismatch => ProblemCode::KeyReused,
    };
    Break(problem(idempotency, &Problem::new(code)))
}

/// An attempt that has lost its claim answers from the record, never from its own result: all answers for
/// a key are equal.
pub(super) fn after_run(idempotency: &Idempotency, answer: Answer, own: Response) -> Response {
    match decided(idempotency, answer) {
        Continue(kept) => note::outcome(idempotency, own, kept.into()),
        Break(other) => other,
    }
}

/// Marks a response that was made without protection.
pub(super) fn degraded(mut response: Response) -> Response {
    let value = HeaderValue::from_static("true");
    // One that has as many headers as there can be goes out as it is.
    let _ = response
        .headers_mut()
        .try_insert(IDEMPOTENCY_DEGRADED, value);
    response
}

/// Puts a response together; 204, 205 and 304 have neither body nor length.
pub(super) fn respond(status: StatusCode, headers: HeaderMap, body: impl Into<Body>) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    with_body(response, body.into())
}

/// Gives a response this body, unless it is one that has none.
pub(super) fn with_body(mut response: Response, body: Body) -> Response {
    *response.body_mut() = if is_bodyless(response.status()) {
        Body::new(NoBody)
    } else {
        body
    };
    response
}

/// Over HTTP/1.1 trailers are sent when they are announced and the body's length is not (RFC 9110, section 6.6.2).
fn with_trailers(mut response: Response, trailers: HeaderMap) -> Response {
    let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
    if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
        response.headers_mut().insert(header::TRAILER, names);
    }
    let body = std::mem::take(response.body_mut()).into_data_stream();
    let frames = body.map(|data| data.map(Frame::data));
    let frames = frames.chain(stream::iter([Ok(Frame::trailers(trailers))]));
    with_body(response, Body::new(StreamBody::new(frames)))
}

/// The handler's own response, put together again.
pub(super) fn whole(response: Response, body: Bytes, trailers: Option<HeaderMap>) -> Response {
    with_body(response, body::whole(body, trailers))
}

/// A body that is at its end but does not claim a length of zero: axum would announce that length
/// (RFC 9110, section 8.6, forbids it for 204).
struct NoBody;

impl http_body::Body for NoBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}
