//! The errors of a call.

use std::fmt;

use bytes::Bytes;
use http::Response;

use crate::code::Code;
use crate::decision::Reason;
use crate::intent::Intent;

/// A complete answer.
pub type Answer = Response<Bytes>;

/// Any error of the HTTP client.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no conclusive answer. **Every error keeps the key**: send the same intent again, later or after a
/// correction.
///
/// ```
/// # use idempotent_client::{Error, Reason};
/// fn say(error: &Error) -> &'static str {
///     match error {
///         Error::Undecided { reason: Reason::Attempts | Reason::Budget, .. } => "not known yet: send the intent again later",
///         Error::Undecided { .. } => "look at the order first",
///         Error::Refused { .. } => "a bug, in this program or in the service",
///         _ => "the request cannot be built",
///     }
/// }
/// ```
///
/// A conclusive answer is never an error, whatever its status: a 402 of the operation is an `Ok`.
/// [`Conclusion`](crate::Conclusion) says what happens to the intent then.
#[non_exhaustive]
pub enum Error {
    /// It is unknown whether the operation ran. Never react with a new intent: send the same one again later, or check
    /// the resource.
    #[non_exhaustive]
    Undecided {
        /// The intent, with its key.
        intent: Intent,
        /// What ended the tries.
        reason: Reason,
        /// The answer of the last try, if it brought a whole one.
        answer: Option<Box<Answer>>,
        /// Why the last try got no answer.
        source: Option<BoxError>,
    },
    /// The request will not be carried out as it is: a programming error, here or in the service, or a redirect, which
    /// is not followed.
    #[non_exhaustive]
    Refused {
        /// The intent, with its key.
        intent: Intent,
        /// The server's reason, or [`Reason::Body`].
        reason: Reason,
        /// The server's answer, if anything was sent.
        answer: Option<Box<Answer>>,
    },
    /// The request cannot be built: a bad URL, a value that does not serialize. Nothing was sent by this try.
    #[non_exhaustive]
    Invalid {
        /// The intent, with its key.
        intent: Intent,
        /// What is wrong with the request.
        source: BoxError,
    },
}

impl Error {
    /// The intent that was sent. Its key is kept.
    #[must_use]
    pub fn intent(&self) -> &Intent {
        match self {
            Self::Undecided { intent, .. }
            | Self::Refused { intent, .. }
            | Self::Invalid { intent, .. } => intent,
        }
    }

    /// The reason, if the request could be built.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Undecided { reason, .. } | Self::Refused { reason, .. } => Some(*reason),
            Self::Invalid { .. } => None,
        }
    }

    /// The answer of the last try, if it brought a whole one.
    #[must_use]
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Undecided { answer, .. } | Self::Refused { answer, .. } => answer.as_deref(),
            Self::Invalid { .. } => None,
        }
    }

    /// The problem code of the last answer, even if it was not the reason.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.answer()?.extensions().get().copied()
    }

    /// Whether the outcome is unknown.
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        matches!(self, Self::Undecided { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecided { reason, .. } => {
                write!(
                    f,
                    "undecided ({reason}): it is unknown whether the operation ran; the key is kept"
                )
            }
            Self::Refused { reason, .. } => {
                write!(
                    f,
                    "refused ({reason}): this request will not be carried out; the key is kept"
                )
            }
            Self::Invalid { .. } => f.write_str("the request cannot be built; the key is kept"),
        }
    }
}

/// Without the answer's headers and body: they may be secret.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.answer().map(Response::status);
        match self {
            Self::Undecided {
                intent,
                reason,
                source,
                ..
            } => f
                .debug_struct("Undecided")
                .field("reason", reason)
                .field("intent", intent)
                .field("status", &status)
                .field("source", source)
                .finish_non_exhaustive(),
            Self::Refused { intent, reason, .. } => f
                .debug_struct("Refused")
                .field("reason", reason)
                .field("intent", intent)
                .field("status", &status)
                .finish_non_exhaustive(),
            Self::Invalid { intent, source } => f
                .debug_struct("Invalid")
                .field("intent", intent)
                .field("source", source)
                .finish_non_exhaustive(),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Undecided {
                source: Some(source),
                ..
            }
            | Self::Invalid { source, .. } => Some(&**source),
            Self::Undecided { .. } | Self::Refused { .. } => None,
        }
    }
}
