//! `Idempotency-Status`: what an answer has to do with its key, and how long the key lives.
//!
//! It is by choice ([`IdempotencyBuilder::status_header`](crate::IdempotencyBuilder::status_header)). On the way an answer
//! carries its [`Standing`] as an extension; where it leaves the crate, the header takes the place of the extension.

use axum::extract::Request;
use axum::response::Response;
use http::HeaderValue;

use crate::engine::Own;
use crate::handle::problem::ProblemCode;
use crate::handle::{IDEMPOTENCY_STATUS, Idempotency};
use crate::policy::Policy;

/// What an answer has to do with its key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    /// The response that the handler has just given is in the record.
    Stored,
    /// It will be: its end is not there yet, or the store has not taken it yet.
    Pending,
    /// It is not: the key is as free as before.
    NotStored,
    /// The answer comes from the record.
    Replayed,
    /// There is no key, or the store was unavailable and the handler ran nevertheless.
    Unprotected,
    Problem(ProblemCode),
}

impl Standing {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Pending => "pending",
            Self::NotStored => "not-stored",
            Self::Replayed => "replayed",
            Self::Unprotected => "unprotected",
            Self::Problem(code) => code.as_str(),
        }
    }
}

impl From<Own> for Standing {
    fn from(own: Own) -> Self {
        match own {
            Own::Stored => Self::Stored,
            Own::Pending => Self::Pending,
            Own::GivenUp => Self::NotStored,
        }
    }
}

/// Says so on the way, if the application wants it to be said at all.
pub(super) fn note(
    idempotency: &Idempotency,
    mut response: Response,
    standing: Standing,
) -> Response {
    if idempotency.has_status_header() {
        response.extensions_mut().insert(standing);
    }
    response
}

/// The same, unless it is a problem whose standing is said already.
pub(super) fn note_unless_noted(
    idempotency: &Idempotency,
    response: Response,
    standing: Standing,
) -> Response {
    match response.extensions().get::<Standing>() {
        Some(_) => response,
        None => note(idempotency, response, standing),
    }
}

/// The header of the answers to one request, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatusHeader {
    lifetime_secs: Option<u64>,
}

impl StatusHeader {
    /// Nothing is said about a safe method, which has nothing to do with keys.
    pub(super) fn of(request: &Request, idempotency: &Idempotency, policy: &Policy) -> Self {
        let is_said = idempotency.has_status_header() && !request.method().is_safe();
        let lifetime = || policy.ttl_or(idempotency.ttl()).as_secs();
        Self {
            lifetime_secs: is_said.then(lifetime),
        }
    }

    pub(super) fn put(self, mut response: Response) -> Response {
        let Some(lifetime) = self.lifetime_secs else {
            return response;
        };
        let standing = response.extensions_mut().remove::<Standing>();
        // What an extractor rejects, and what is taken back.
        let standing = standing.unwrap_or(Standing::NotStored).as_str();
        // In whole seconds: of a lifetime below one nothing is said.
        let value = match lifetime {
            0 => standing.to_owned(),
            secs => format!("{standing}; lifetime={secs}"),
        };
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(IDEMPOTENCY_STATUS, value);
        }
        response
    }
}
