//! HTTP: from a request to an answer.

mod admission;
mod answer;
mod body;
mod capture;
mod commit;
mod extraction;
mod extractors;
mod identify;
mod note;
mod received;
mod recorder;
mod release;
mod report;
mod request;
mod resolved;
mod stored;

pub use extraction::Extraction;
pub use release::Release;
pub use report::Answered;
pub use request::{IdempotentRequest, Unbound};
