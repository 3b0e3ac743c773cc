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
mod status;
mod stored;

pub use extraction::Extraction;
pub use release::Release;
pub use request::{IdempotentRequest, Unbound};
