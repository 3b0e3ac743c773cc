//! What a client does next.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use crate::code::Code;

/// What is next after a try, and with it what becomes of the key.
///
/// Only [`Conclude`](Self::Conclude) spends the key, but for [`Conclusion::Rejected`]. There is no decision that makes another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Wait this long, then send the same key and the same bytes again.
    #[non_exhaustive]
    Retry {
        /// At least the answer's `Retry-After`.
        wait: Duration,
    },
    /// Hand the answer over.
    Conclude(Conclusion),
    /// It will not be done as it was asked. The key is kept.
    Refuse(Reason),
    /// Whether it happened is not known. The key is kept.
    Undecided(Reason),
}

/// What a conclusive answer says about the intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conclusion {
    /// The operation has run. The saved intent is kept until the application has acted on the answer.
    ///
    /// A 5xx with this conclusion may have taken effect: look before another intent is made.
    Answered,
    /// Nothing has happened, and nothing will: a 4xx that the server marks as the stored answer, or the answer to the only try
    /// of an intent that no other process can have. The intent is [closed](crate::Intent::close) with it, and the saved one may be
    /// deleted at once.
    Closed,
    /// Nothing has happened by the tries of this process: a 4xx to its first one, which nothing marks as the stored answer. But
    /// another process may have the intent, because it was saved or its key was handed out, and may have sent it.
    ///
    /// [Close](crate::Intent::close) and delete the intent only if no other process can have sent it. Otherwise keep it: sent again,
    /// an answer of the operation comes back marked.
    Rejected,
}

/// Why an intent is refused or undecided. `Display` is the word of the table: `attempts`, `in-flight`, `401`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// All tries of this call are used up.
    Attempts,
    /// The time of this call is used up, or the server asks for a longer wait than is left.
    Budget,
    /// The key is too old, or how old it is is not known, because the clock was set back: the server may have forgotten it.
    Lifetime,
    /// The intent was closed, or is not stored any more. Nothing was sent after that.
    Closed,
    /// The body cannot be sent again. Nothing was sent.
    Body,
    /// The HTTP client below has followed a redirect, so the answer is not one to this request.
    Redirected,
    /// The server says that the operation has run without a record of the key, because its store was unavailable or the
    /// handler is not protected. It would run again.
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
