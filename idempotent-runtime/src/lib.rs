//! Idempotency keys for axum handlers.

#![forbid(unsafe_code)]

mod canonical;
mod clock;
mod digest;
mod engine;
mod error;
mod fingerprint;
mod http;
mod key;
mod policy;
mod record;
mod recovery;
pub mod store;

pub use idempotent_macros::idempotent;

pub use self::clock::{Clock, ManualClock, SystemClock};
pub use self::error::{Error, ErrorKind};
pub use self::fingerprint::Fingerprint;
pub use self::http::{
    Attempt, Builder, HeaderFilter, IDEMPOTENCY_DEGRADED, IDEMPOTENT_REPLAYED, Idempotency,
    OnStoreFailure, Problem, ProblemCode, Release,
};
pub use self::key::{InvalidKey, Key, KeySyntax, MAX_KEY_BYTES, RecordKey};
pub use self::policy::{FingerprintOf, InFlight, OnAbandoned, Policy, StoreErrors};
pub use self::record::{DecodeError, Owner, Record, RecordState, StoredResponse, Token};
pub use self::recovery::{Abandoned, Recovery};

/// What the expansion of `#[idempotent]` names. Not for use by hand; it may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use axum::response::Response;

    pub use crate::http::{IdempotentRequest, Inputs};

    /// Fails to compile, at the type, when a handler returns what is no response.
    pub fn assert_answer<T: axum::response::IntoResponse>() {}
}
