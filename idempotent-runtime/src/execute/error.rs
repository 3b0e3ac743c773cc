use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::engine::Refusal;
use crate::handle::problem::ProblemCode;
use crate::observer::Outcome;

/// Why a function under `#[idempotent]`, or under [`Idempotency::execute`](crate::Idempotency::execute), has no result.
///
/// It does not mean that nothing happened: see the [kinds](ExecuteErrorKind).
///
/// It is converted to the function's own error type, which must be `From<ExecuteError>`:
///
/// ```
/// use idempotent_runtime::ExecuteError;
///
/// enum SettleError {
///     Unreachable,
///     /// Deliver the message again after this time, or put it aside.
///     NotExecuted(ExecuteError),
/// }
///
/// impl From<ExecuteError> for SettleError {
///     fn from(reason: ExecuteError) -> Self {
///         Self::NotExecuted(reason)
///     }
/// }
/// ```
#[derive(Debug)]
pub struct ExecuteError {
    kind: ExecuteErrorKind,
    retry_after: Option<Duration>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The kind of an [`ExecuteError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecuteErrorKind {
    /// Another call with the key is running: retry.
    InFlight,
    /// The key was used with different input. A retry does not help.
    Mismatch,
    /// An earlier attempt was interrupted: **whether it took effect is unknown**. Check, and then call
    /// with a new key; or set [`Policy::on_abandoned`](crate::Policy::on_abandoned).
    OutcomeUnknown,
    /// **The function ran**, and its result was not stored.
    NotRetained,
    /// **The function ran**, and the stored result cannot be read as the requested type: another release has stored it.
    Unreadable,
    /// **The record is completed**, but with an HTTP response instead of a result: only a recovery function or an
    /// operator can have stored it.
    HttpResponse,
    /// The key is empty or longer than 255 bytes, or its time is in the future ([`KeyAge::Ttl`](crate::KeyAge::Ttl)).
    /// Nothing has run.
    InvalidKey,
    /// The key is older than the TTL and has no record ([`KeyAge::Ttl`](crate::KeyAge::Ttl)): the function may have
    /// run, and its record has expired. Nothing has run *now*, and a retry does not help.
    KeyExpired,
    /// Scope, key or input cannot be used: it does not serialize, or shares its JSON with another value (as NaN and
    /// `None` do). Or the label has more than 64 bytes. The source says which. Nothing has run.
    UnusableInput,
    /// The records cannot be read or written at the moment. This call has run nothing; retry.
    Store,
    /// This instance takes no new work. This call has run nothing; retry with another instance.
    ShuttingDown,
}

impl ExecuteErrorKind {
    /// What observers are told: the word that a request with this answer has.
    pub(super) fn outcome(self) -> Outcome {
        let code = match self {
            Self::InFlight => ProblemCode::InFlight,
            Self::Mismatch => ProblemCode::KeyReused,
            Self::OutcomeUnknown => ProblemCode::OutcomeUnknown,
            Self::NotRetained | Self::Unreadable | Self::HttpResponse => return Outcome::Replayed,
            Self::InvalidKey => ProblemCode::InvalidKey,
            Self::KeyExpired => ProblemCode::KeyExpired,
            Self::UnusableInput => ProblemCode::UnusableInput,
            Self::Store => ProblemCode::StoreUnavailable,
            Self::ShuttingDown => ProblemCode::ShuttingDown,
        };
        Outcome::Problem(code)
    }
}

impl ExecuteError {
    pub(super) fn new(kind: ExecuteErrorKind) -> Self {
        Self {
            kind,
            retry_after: None,
            source: None,
        }
    }

    pub(super) fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(super) fn retry_in(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    pub(super) fn refused(refusal: Refusal) -> Self {
        let reason = match refusal {
            Refusal::KeyExpired => return Self::new(ExecuteErrorKind::KeyExpired),
            Refusal::ShuttingDown => Self::new(ExecuteErrorKind::ShuttingDown),
            Refusal::Store(error) => Self::new(ExecuteErrorKind::Store).caused_by(error),
            Refusal::NoToken(error) => Self::new(ExecuteErrorKind::Store).caused_by(error),
            Refusal::InUse(refusal) => return Self::refused(*refusal),
        };
        reason.retry_in(Duration::from_secs(1))
    }

    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> ExecuteErrorKind {
        self.kind
    }

    /// The time after which to retry with the same key; `None` if a retry does not help.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for ExecuteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            ExecuteErrorKind::InFlight => "another call with this key is running",
            ExecuteErrorKind::Mismatch => "the key was used with different input",
            ExecuteErrorKind::OutcomeUnknown => {
                "an earlier attempt was interrupted; its outcome is unknown"
            }
            ExecuteErrorKind::NotRetained => "already executed; its result was not stored",
            ExecuteErrorKind::Unreadable => {
                "the stored result cannot be read as the requested type"
            }
            ExecuteErrorKind::HttpResponse => "the record holds an HTTP response and not a result",
            ExecuteErrorKind::InvalidKey => "invalid key",
            ExecuteErrorKind::KeyExpired => "the key is older than the TTL, and has no record",
            ExecuteErrorKind::UnusableInput => "unusable scope, key, input or label",
            ExecuteErrorKind::Store => "the store cannot be read or written",
            ExecuteErrorKind::ShuttingDown => "the service is shutting down",
        })
    }
}

impl Error for ExecuteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
