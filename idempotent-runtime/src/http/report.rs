//! What a request was answered with, for all who want to know: the client (`Idempotency-Status`), layers of the
//! application (an extension), the request's span, and observers.
//!
//! Where an answer leaves the crate, [`Report`] takes its [`Note`] off and says what each of them is to be told. Where
//! nothing asks, there is neither.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use http::{HeaderValue, Method};
use tracing::{Level, Span};

use super::answer;
use super::identify::{operation_of, unbounded};
use super::note::{self, Note, is_noted};
use super::release::Unstored;
use crate::engine::{Described, Intent};
use crate::handle::{IDEMPOTENCY_STATUS, Idempotency};
use crate::key::RecordKey;
use crate::observer::{Event, Outcome};
use crate::operation::stored;
use crate::policy::Policy;

/// How a protected request was answered: an extension of its response, if
/// [`IdempotencyBuilder::answered_extension`](crate::IdempotencyBuilder::answered_extension) is set.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answered {
    /// The operation: the handler's `name`, or its method and route.
    pub operation: Arc<str>,
    /// The outcome.
    pub outcome: Outcome,
    /// The record key. `None` if the request has no valid key, or was rejected before its key was read.
    pub record: Option<RecordKey>,
    /// The attempt that ran; `None` if none did.
    pub attempt: Option<u32>,
}

/// Who waits for the answer to one request, if anything does. Dropped without an answer, it tells observers that the client
/// has disconnected.
#[derive(Debug)]
pub(super) struct Report(Option<Box<Reporting>>);

#[derive(Debug)]
struct Reporting {
    idempotency: Idempotency,
    policy: &'static Policy,
    method: Method,
    route: Option<MatchedPath>,
    span: Span,
    record: Option<RecordKey>,
    described: Option<Described>,
    attempt: Option<u32>,
    /// What observers are told in the end.
    outcome: Outcome,
}

impl Report {
    pub(super) fn of(
        request: &Request,
        idempotency: &Idempotency,
        policy: &'static Policy,
    ) -> Self {
        if !is_noted(idempotency) {
            return Self(None);
        }
        Self(Some(Box::new(Reporting {
            idempotency: idempotency.clone(),
            policy,
            method: request.method().clone(),
            route: request.extensions().get().cloned(),
            span: Span::current(),
            record: None,
            described: None,
            attempt: None,
            outcome: Outcome::Disconnected,
        })))
    }

    /// What the request is.
    pub(super) fn identified(&mut self, intent: Option<&Intent>) {
        if let (Some(reporting), Some(intent)) = (&mut self.0, intent) {
            reporting.record = Some(intent.keys.first());
            reporting.described = Some(intent.operation.clone());
        }
    }

    /// Which attempt runs.
    pub(super) fn runs(&mut self, attempt: u32) {
        if let Some(reporting) = &mut self.0 {
            reporting.attempt = Some(attempt);
        }
    }

    /// As [`finish`](Self::finish), of a request that has run without a record because it needs none.
    pub(super) fn unprotected(self, mut response: Response) -> Response {
        if let Some(reporting) = &self.0 {
            response = note::outcome(&reporting.idempotency, response, Outcome::Unprotected);
        }
        self.finish(response)
    }

    /// Tells all of them, and gives the answer its last form. What it says of this key says nothing of another, should a
    /// protected handler have asked for it.
    pub(super) fn finish(self, mut response: Response) -> Response {
        response.extensions_mut().remove::<Unstored>();
        match self.0 {
            Some(mut reporting) => reporting.finish(response),
            None => response,
        }
    }
}

impl Reporting {
    fn finish(&mut self, mut response: Response) -> Response {
        let note = response.extensions_mut().remove::<Note>();
        // Without a note: what was stored as it should be, and what an extractor rejects.
        let mut note = note.unwrap_or_else(|| match self.attempt {
            Some(_) => Note::of(Outcome::Stored),
            None => Note::of(Outcome::NotStored),
        });
        let is_safe = self.method.is_safe();
        if is_safe {
            // Its problem is still to be rendered.
            note.outcome = Outcome::Safe;
            note.has_failed = false;
        }
        self.outcome = note.observed();
        if let Some(problem) = note.problem {
            let problem = self.with_operation(|operation| problem.of_operation(operation));
            response = answer::rendered(&self.idempotency, &problem, response);
        }
        if !self.span.is_none() || tracing::enabled!(Level::DEBUG) {
            self.tell_span(note.trace_context.as_deref());
        }
        if self.idempotency.has_status_header() && !is_safe {
            self.put_header(&mut response, note.outcome);
        }
        if self.idempotency.has_answered_extension() {
            response.extensions_mut().insert(Answered {
                operation: self.with_operation(|operation| operation.into()),
                outcome: self.outcome,
                record: self.record,
                attempt: self.attempt,
            });
        }
        response
    }

    /// The operation as it is shown. Of a request that was not identified it is made here.
    fn with_operation<T>(&self, f: impl FnOnce(&str) -> T) -> T {
        if let Some(described) = &self.described {
            return f(described.shown());
        }
        let route = self.route.as_ref();
        match unbounded(&self.method, route, self.policy) {
            Some(name) => f(&name),
            None => {
                let route = route.map(MatchedPath::as_str);
                f(stored(&operation_of(&self.method, route, self.policy)))
            }
        }
    }

    /// The fields are recorded where the application's span has declared them.
    fn tell_span(&self, trace_context: Option<&str>) {
        let outcome = self.outcome.as_str();
        let record = self.record.as_ref().map(tracing::field::display);
        self.span.record("idempotency.outcome", outcome);
        if let Some(record) = &record {
            self.span.record("idempotency.record", record);
        }
        if let Some(attempt) = self.attempt {
            self.span.record("idempotency.attempt", attempt);
        }
        self.with_operation(|operation| {
            self.span.record("idempotency.operation", operation);
            if self.outcome != Outcome::Safe {
                tracing::debug!(parent: &self.span, operation, outcome, record, attempt = self.attempt,
                    first_traceparent = trace_context, "answered");
            }
        });
    }

    fn put_header(&self, response: &mut Response, outcome: Outcome) {
        let status = match outcome {
            // What the client is told has one word for both.
            Outcome::Degraded => Outcome::Unprotected.as_str(),
            other => other.as_str(),
        };
        // In whole seconds: of a lifetime below one nothing is said.
        let value = match self.policy.ttl_or(self.idempotency.ttl()).as_secs() {
            0 => status.to_owned(),
            secs => format!("{status}; lifetime={secs}"),
        };
        if let Ok(value) = HeaderValue::try_from(value) {
            // One that has as many headers as there can be goes out as it is.
            let _ = response.headers_mut().try_insert(IDEMPOTENCY_STATUS, value);
        }
    }
}

/// Each request has one outcome: one without an answer, that its client has disconnected.
impl Drop for Reporting {
    fn drop(&mut self) {
        let observers = self.idempotency.engine().observers();
        if observers.is_none() {
            return;
        }
        let outcome = self.outcome.unless_panicking();
        self.with_operation(|operation| {
            observers.tell(|| Event::Request { operation, outcome });
        });
    }
}
