//! What a request was answered with, for all who want to know: the client (`Idempotency-Status`), layers of the
//! application (an extension), the request's span, and observers.
//!
//! Where an answer leaves the crate, [`Report`] takes its [`Note`] off and says what each of them is to be told. Where nobody
//! asks, there is neither.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use http::HeaderValue;
use tracing::Span;

use super::answer;
use super::identify::{operation_of, unbounded};
use super::note::{Note, is_noted};
use crate::handle::{IDEMPOTENCY_STATUS, Idempotency};
use crate::key::RecordKey;
use crate::observer::{ObservedRequest, Outcome};
use crate::operation::stored;
use crate::policy::Policy;

/// What a protected request was answered with: an extension of its response, if
/// [`IdempotencyBuilder::answered_extension`](crate::IdempotencyBuilder::answered_extension) is set.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answered {
    /// The operation: the handler's `name`, or its method and route.
    pub operation: Arc<str>,
    /// What the answer is.
    pub outcome: Outcome,
    /// The record key. `None` if the request has no key, or no usable one, or if it was rejected before the key was looked at.
    pub record: Option<RecordKey>,
    /// Which attempt has run; `None` if none has.
    pub attempt: Option<u32>,
}

/// Who waits for the answer to one request, if anything does. Dropped without an answer, it tells observers that the client
/// has disconnected.
#[derive(Debug)]
pub(super) struct Report(Option<Box<Reporting>>);

#[derive(Debug)]
struct Reporting {
    idempotency: Idempotency,
    observed: ObservedRequest,
    span: Span,
    lifetime_secs: u64,
    is_safe: bool,
    record: Option<RecordKey>,
    attempt: Option<u32>,
}

impl Report {
    pub(super) fn of(request: &Request, idempotency: &Idempotency, policy: &Policy) -> Self {
        if !is_noted(idempotency) {
            return Self(None);
        }
        let route = request.extensions().get::<MatchedPath>();
        let path = || operation_of(request.method(), route.map(MatchedPath::as_str), policy);
        let operation = match unbounded(request.method(), route, policy) {
            Some(name) => name.into(),
            None => stored(&path()).into(),
        };
        Self(Some(Box::new(Reporting {
            observed: ObservedRequest::new(idempotency.engine().observers(), operation),
            idempotency: idempotency.clone(),
            span: Span::current(),
            lifetime_secs: policy.ttl_or(idempotency.ttl()).as_secs(),
            is_safe: request.method().is_safe(),
            record: None,
            attempt: None,
        })))
    }

    /// Which record the request has.
    pub(super) fn identified(&mut self, record: impl FnOnce() -> Option<RecordKey>) {
        if let Some(reporting) = &mut self.0 {
            reporting.record = record();
        }
    }

    /// Which attempt runs.
    pub(super) fn runs(&mut self, attempt: u32) {
        if let Some(reporting) = &mut self.0 {
            reporting.attempt = Some(attempt);
        }
    }

    /// Tells all of them, and gives the answer its last form.
    pub(super) fn finish(self, response: Response) -> Response {
        match self.0 {
            Some(reporting) => reporting.finish(response),
            None => response,
        }
    }
}

impl Reporting {
    fn finish(self, mut response: Response) -> Response {
        let note = response.extensions_mut().remove::<Note>();
        // Without a note: what an extractor rejects, and what is taken back.
        let mut note = note.unwrap_or(Note::of(Outcome::NotStored));
        if self.is_safe {
            // Its problem is still to be rendered.
            note.outcome = Outcome::Safe;
            note.has_failed = false;
        }
        let outcome = note.observed();
        if let Some(problem) = note.problem {
            let problem = problem.of_operation(self.observed.operation());
            response = answer::rendered(&self.idempotency, &problem, response);
        }
        self.tell_span(outcome, note.trace_context.as_deref());
        if self.idempotency.has_status_header() && !self.is_safe {
            self.put_header(&mut response, note.outcome);
        }
        if self.idempotency.has_answered_extension() {
            response.extensions_mut().insert(Answered {
                operation: Arc::clone(self.observed.operation()),
                outcome,
                record: self.record,
                attempt: self.attempt,
            });
        }
        self.observed.end(outcome);
        response
    }

    /// The fields are recorded where the application's span has declared them.
    fn tell_span(&self, outcome: Outcome, trace_context: Option<&str>) {
        let (operation, outcome_name) = (&**self.observed.operation(), outcome.as_str());
        self.span.record("idempotency.operation", operation);
        self.span.record("idempotency.outcome", outcome_name);
        let record = self.record.as_ref().map(tracing::field::display);
        if let Some(record) = &record {
            self.span.record("idempotency.record", record);
        }
        if let Some(attempt) = self.attempt {
            self.span.record("idempotency.attempt", attempt);
        }
        if !self.is_safe {
            tracing::debug!(parent: &self.span, operation, outcome = outcome_name, record, attempt = self.attempt,
                first_traceparent = trace_context, "answered");
        }
    }

    fn put_header(&self, response: &mut Response, outcome: Outcome) {
        let status = match outcome {
            // What the client is told has one word for both.
            Outcome::Degraded => Outcome::Unprotected.as_str(),
            other => other.as_str(),
        };
        // In whole seconds: of a lifetime below one nothing is said.
        let value = match self.lifetime_secs {
            0 => status.to_owned(),
            secs => format!("{status}; lifetime={secs}"),
        };
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(IDEMPOTENCY_STATUS, value);
        }
    }
}
