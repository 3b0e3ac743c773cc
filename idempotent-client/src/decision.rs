//! What a client does next.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use crate::code::Code;

/// What a client does after a try, and what happens to the key.
///
/// Only [`Conclude`](Self::Conclude) spends the key, except with [`Conclusion::Rejected`]. No decision makes another
/// key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Wait this long, then send the same key and the same bytes again.
    #[non_exhaustive]
    Retry {
        /// The wait: at least the answer's `Retry-After`.
        wait: Duration,
    },
    /// Return the answer.
    Conclude(Conclusion),
    /// The request will not be carried out as it is. The key is kept.
    Refuse(Reason),
    /// It is unknown whether the operation ran. The key is kept.
    Undecided(Reason),
}

/// What a conclusive answer says about the intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conclusion {
    /// The operation has run. The saved intent is kept until the application has acted on the answer.
    ///
    /// A 5xx with this conclusion may have taken effect: check before you make another intent.
    Answered,
    /// Nothing has happened, and nothing will: a 4xx that the server marks as the stored answer, or the answer to the only try
    /// of an intent that no other process can have. The intent is [closed](crate::Intent::close) with it, and the saved one may be
    /// deleted at once.
    Closed,
    /// The tries of this process did nothing: a 4xx to the first one, which is not marked as the stored answer. But
    /// another process may have the intent, because it was saved or its key was read, and may have sent it.
    ///
    /// [Close](crate::Intent::close) and delete the intent only if no other process can have sent it. Otherwise keep
    /// it, and send it again: the operation's own answer then comes back marked.
    Rejected,
}

/// Why an intent is refused or undecided. `Display` is the word of the table: `attempts`, `in-flight`, `401`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// All tries of this call are used up.
    Attempts,
    /// The time of this call is used up, or the server asks for a longer wait than the rest.
    Budget,
    /// The key is too old, or its age is unknown because the clock was set back: the server may have forgotten the key.
    Lifetime,
    /// The intent was closed, or is not stored any more. Nothing was sent after that.
    Closed,
    /// The body cannot be sent again. Nothing was sent.
    Body,
    /// The HTTP client has followed a redirect, so the answer does not belong to this request.
    Redirected,
    /// The server says that the operation has run without a record of the key, because its store was unavailable or the
    /// handler is not protected. A retry would run it again.
    Unprotected,
    /// The server's problem.
    Code(Code),
    /// Stripe's error type `idempotency_error`: the key was used with other parameters.
    IdempotencyError,
    /// The server's status.
    Status(StatusCode),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attempts => f.write_str("attempts"),
            Self::Budget => f.write_str("budget"),
            Self::Lifetime => f.write_str("lifetime"),
            Self::Closed => f.write_str("closed"),
            Self::Body => f.write_str("body"),
            Self::Redirected => f.write_str("redirected"),
            Self::Unprotected => f.write_str("unprotected"),
            Self::Code(code) => code.fmt(f),
            Self::IdempotencyError => f.write_str("idempotency_error"),
            Self::Status(status) => f.write_str(status.as_str()),
        }
    }
}
