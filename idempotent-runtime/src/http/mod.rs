//! HTTP: from a request to an answer.

mod admission;
mod answer;
mod body;
mod capture;
mod commit;
#[cfg(feature = "test-util")]
mod crash;
mod extraction;
mod extractors;
#[cfg(feature = "forgotten-routes")]
mod forgotten;
mod identify;
mod note;
#[cfg(any(feature = "forgotten-routes", feature = "test-util"))]
pub(crate) mod observed;
mod received;
mod recorder;
mod release;
mod report;
mod request;
mod resolved;
mod source;
mod stored;
mod tape;
mod tested;

pub use commit::Work;
pub use extraction::Extraction;
#[cfg(feature = "forgotten-routes")]
pub use forgotten::{ForgottenRoutes, ForgottenRoutesLayer};
pub use release::Release;
pub use report::Answered;
pub use request::{IdempotentRequest, Unbound};
