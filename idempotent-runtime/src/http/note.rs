//! What an answer says of itself on its way out, as an extension, if anything wants to know.

use axum::response::Response;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span};

use crate::handle::Idempotency;
use crate::handle::problem::{Problem, ProblemCode};
use crate::observer::Outcome;

/// What an answer says of itself on its way.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) outcome: Outcome,
    /// The handler has panicked, or its body has broken off, whatever is stored of that.
    pub(super) has_failed: bool,
    /// The `traceparent` of the attempt that is replayed.
    pub(super) trace_context: Option<Box<str>>,
    /// A problem that the application will render, when its operation is known.
    pub(super) problem: Option<Box<Problem>>,
}

const FAILED: Outcome = Outcome::Problem(ProblemCode::HandlerFailed);

pub(super) fn is_noted(idempotency: &Idempotency) -> bool {
    // The level is one load, where there is no subscriber at all.
    idempotency.is_reported()
        || (LevelFilter::current() != LevelFilter::OFF
            && (!Span::current().is_none() || tracing::enabled!(Level::DEBUG)))
}

impl Note {
    pub(super) fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            has_failed: false,
            trace_context: None,
            problem: None,
        }
    }

    /// What observers are told.
    pub(super) fn observed(&self) -> Outcome {
        if self.has_failed {
            FAILED
        } else {
            self.outcome
        }
    }
}

/// Says what the answer is, if anything wants to know.
pub(super) fn outcome(
    idempotency: &Idempotency,
    mut response: Response,
    outcome: Outcome,
) -> Response {
    if is_noted(idempotency) {
        let extensions = response.extensions_mut();
        match extensions.get_mut::<Note>() {
            Some(note) => {
                note.has_failed |= note.outcome == FAILED;
                note.outcome = outcome;
            }
            // What an attempt that ran has, unless it says otherwise.
            None if outcome == Outcome::Stored => {}
            None => {
                extensions.insert(Note::of(outcome));
            }
        }
    }
    response
}

/// The same, unless it is a problem that says so already.
pub(super) fn unless_noted(
    idempotency: &Idempotency,
    response: Response,
    outcome: Outcome,
) -> Response {
    match response.extensions().get::<Note>() {
        Some(_) => response,
        None => self::outcome(idempotency, response, outcome),
    }
}

/// Says whose response is replayed.
pub(super) fn trace_context(response: &mut Response, trace_context: Option<Box<str>>) {
    if let Some(note) = response.extensions_mut().get_mut::<Note>() {
        note.trace_context = trace_context;
    }
}

/// Leaves the rendering to the [`Report`], which knows the operation.
pub(super) fn problem(idempotency: &Idempotency, response: &mut Response, problem: &Problem) {
    let noted = unless_noted(
        idempotency,
        std::mem::take(response),
        Outcome::Problem(problem.code()),
    );
    *response = noted;
    if let Some(note) = response.extensions_mut().get_mut::<Note>() {
        note.problem = Some(Box::new(problem.clone()));
    }
}
