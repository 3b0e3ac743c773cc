//! HTTP: everything that knows a request or a response.

mod admission;
mod answer;
mod attempt;
mod body;
mod capture;
mod commit;
mod extraction;
mod filter;
mod handle;
mod identify;
mod inputs;
mod operator;
mod problem;
mod recorder;
mod request;
mod resolved;
mod transactional;

pub use attempt::{Attempt, Release};
pub use extraction::Extraction;
pub use filter::HeaderFilter;
pub use handle::{Idempotency, IdempotencyBuilder, OnStoreFailure};
pub use inputs::{Argument, Inputs};
pub use problem::{Problem, ProblemCode};
pub use request::{IdempotentRequest, Unbound};
pub use transactional::Transactions;

use axum::response::Response;
use http::{HeaderName, HeaderValue};

use crate::engine::Held;

/// The attempt of a function that no request has asked for.
pub(crate) fn attempt_of(held: &mut Held) -> Attempt {
    let attempt = Attempt::default();
    attempt.begin(held);
    attempt
}

/// `true` on every response that comes from a record and not from the handler.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// `true` on a response that was made without protection, because the store was away and
/// [`OnStoreFailure::FailOpen`] says to go on.
pub const IDEMPOTENCY_DEGRADED: HeaderName = HeaderName::from_static("idempotency-degraded");

fn degraded(mut response: Response) -> Response {
    let value = HeaderValue::from_static("true");
    response.headers_mut().insert(IDEMPOTENCY_DEGRADED, value);
    response
}
