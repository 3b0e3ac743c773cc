//! The codes of problems, by which clients tell them apart.

use std::fmt;

use http::StatusCode;

/// The stable code of a problem: clients may rely on it. [`answers`](crate::answers) says what a
/// client does about each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemCode {
    /// 400 `missing-key`: the operation requires a key.
    MissingKey,
    /// 400 `invalid-key`: empty, too long, malformed quoting, sent twice, or with a forbidden character.
    InvalidKey,
    /// 400 `key-expired`: the key has no record, and is so old that its record may have expired: whether it was used is
    /// no longer known. Nothing was run.
    KeyExpired,
    /// 422 `key-reused`: the key belongs to another request.
    KeyReused,
    /// 409 `in-flight`: the first request with this key is still running.
    InFlight,
    /// 409 `outcome-unknown`: the first request crashed, or has not reached the store for longer than its lease; whether it took effect is not known.
    OutcomeUnknown,
    /// The stored status, `response-not-retained`: the request was carried out, but its body could not be stored.
    ResponseNotRetained,
    /// 503 `store-unavailable`: the store is unavailable, refuses or is full. Nothing was run, or (`#[tx]`) it was rolled back.
    StoreUnavailable,
    /// 503 `shutting-down`: this instance accepts no new work. Nothing was run.
    ShuttingDown,
    /// 503 `overloaded`: too many handlers are still running after their clients disconnected
    /// ([`IdempotencyBuilder::max_background_handlers`](crate::IdempotencyBuilder::max_background_handlers)). Nothing was run.
    Overloaded,
    /// 500 `handler-failed`: the handler panicked, or its response body was interrupted.
    HandlerFailed,
    /// 500 `unusable-input`: a `scope`, `key` or `fingerprint` expression could not be serialized, or a `label` has
    /// more than 64 bytes. Nothing was run.
    UnusableInput,
    /// 501 `unprotected-route`: the request has a key, and the handler, which **has run**, is not protected by it. Only from
    /// [`ForgottenRoutesLayer::refuse`](crate::answers#unprotected-route) (feature `forgotten-routes`).
    UnprotectedRoute,
}

impl ProblemCode {
    /// All codes.
    pub const ALL: &'static [Self] = &[
        Self::MissingKey,
        Self::InvalidKey,
        Self::KeyExpired,
        Self::KeyReused,
        Self::InFlight,
        Self::OutcomeUnknown,
        Self::ResponseNotRetained,
        Self::StoreUnavailable,
        Self::ShuttingDown,
        Self::Overloaded,
        Self::HandlerFailed,
        Self::UnusableInput,
        Self::UnprotectedRoute,
    ];

    /// The code as it appears in the response's `code` member.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingKey => "missing-key",
            Self::InvalidKey => "invalid-key",
            Self::KeyExpired => "key-expired",
            Self::KeyReused => "key-reused",
            Self::InFlight => "in-flight",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::ResponseNotRetained => "response-not-retained",
            Self::StoreUnavailable => "store-unavailable",
            Self::ShuttingDown => "shutting-down",
            Self::Overloaded => "overloaded",
            Self::HandlerFailed => "handler-failed",
            Self::UnusableInput => "unusable-input",
            Self::UnprotectedRoute => "unprotected-route",
        }
    }

    /// The status code; for [`ResponseNotRetained`](Self::ResponseNotRetained) the stored status
    /// replaces it.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::MissingKey | Self::InvalidKey | Self::KeyExpired => StatusCode::BAD_REQUEST,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::InFlight | Self::OutcomeUnknown => StatusCode::CONFLICT,
            Self::ResponseNotRetained => StatusCode::OK,
            Self::StoreUnavailable | Self::ShuttingDown | Self::Overloaded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::HandlerFailed | Self::UnusableInput => StatusCode::INTERNAL_SERVER_ERROR,
            Self::UnprotectedRoute => StatusCode::NOT_IMPLEMENTED,
        }
    }

    /// A short summary, the same for every occurrence.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::MissingKey => "Idempotency key missing",
            Self::InvalidKey => "Idempotency key invalid",
            Self::KeyExpired => "Idempotency key expired",
            Self::KeyReused => "Idempotency key reused for another request",
            Self::InFlight => "Request still running",
            Self::OutcomeUnknown => "Outcome unknown",
            Self::ResponseNotRetained => "Response not retained",
            Self::StoreUnavailable => "Idempotency store unavailable",
            Self::ShuttingDown => "Service shutting down",
            Self::Overloaded => "Service overloaded",
            Self::HandlerFailed => "Request failed",
            Self::UnusableInput => "Request could not be identified",
            Self::UnprotectedRoute => "Operation not protected by its key",
        }
    }

    pub(super) const fn detail(self) -> &'static str {
        match self {
            Self::MissingKey => {
                "This operation needs an idempotency key. Make one for each intent, for example a \
                 UUID, and send the same one with every retry."
            }
            Self::InvalidKey => "The idempotency key is invalid.",
            Self::KeyExpired => {
                "The idempotency key is so old that the record of its first request may be gone. Nothing was \
                 done this time. Check the resource before you try again with a new key."
            }
            Self::KeyReused => {
                "This idempotency key was used with another request. Send the first request \
                 unchanged, or use a new key for a new intent."
            }
            Self::InFlight => {
                "The first request with this idempotency key is still running. Retry with the same \
                 key after the time in Retry-After."
            }
            Self::OutcomeUnknown => {
                "It is unknown whether the first request with this idempotency key took effect: it was \
                 interrupted, or its process cannot reach the store. Retrying with the same key does not repeat \
                 it and may return its response later. Check the resource before you use a new key."
            }
            Self::ResponseNotRetained => {
                "The request was carried out before, with this status. Its response body could not be \
                 stored, for example because it was too large."
            }
            Self::StoreUnavailable => {
                "Nothing was done this time, because the idempotency store cannot be used at the \
                 moment. Retry with the same key."
            }
            Self::ShuttingDown => {
                "Nothing was done this time, because this instance is shutting down. Retry with the \
                 same key."
            }
            Self::Overloaded => {
                "Nothing was done this time, because this instance is still busy with requests whose \
                 clients have disconnected. Retry with the same key."
            }
            Self::HandlerFailed => "The request failed unexpectedly. It may have taken effect.",
            Self::UnusableInput => {
                "Nothing was done this time, because the server could not determine what identifies \
                 the request."
            }
            Self::UnprotectedRoute => {
                "The request was carried out, but this operation ignores idempotency keys: a retry would carry it \
                 out again. Check the resource. The service has to protect this operation."
            }
        }
    }
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
