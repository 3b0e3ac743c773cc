//! HTTP: from a request to an answer.

mod admission;
mod answer;
mod body;
mod capture;
mod commit;
mod extraction;
mod extractors;
mod identify;
mod received;
mod recorder;
mod release;
mod request;
mod resolved;

pub use extraction::Extraction;
pub use release::Release;
pub use request::{IdempotentRequest, Unbound};

use axum::response::Response;
use http::HeaderValue;

use crate::handle::IDEMPOTENCY_DEGRADED;

fn degraded(mut response: Response) -> Response {
    let value = HeaderValue::from_static("true");
    response.headers_mut().insert(IDEMPOTENCY_DEGRADED, value);
    response
}
