//! HTTP: from a request to an answer.

mod admission;
mod answer;
mod body;
mod capture;
mod commit;
mod extraction;
mod extractors;
#[cfg(feature = "forgotten-routes")]
mod forgotten;
mod identify;
#[cfg(feature = "forgotten-routes")]
pub(crate) mod observed;
mod received;
mod recorder;
mod release;
mod request;
mod resolved;
mod status;
mod stored;

pub use extraction::Extraction;
#[cfg(feature = "forgotten-routes")]
pub use forgotten::{ForgottenRoutes, ForgottenRoutesLayer};
pub use release::Release;
pub use request::{IdempotentRequest, Unbound};
