use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::engine::Refusal;
use crate::handle::problem::ProblemCode;
use crate::observer::Outcome;

/// Why a function under `#[idempotent]`, or under [`Idempotency::execute`](crate::Idempotency::execute), has
/// no result.
///
/// It does not say that nothing happened: see the [kinds](ExecuteErrorKind).
///
/// It is returned through the function's own error type, which therefore is `From<ExecuteError>`:
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

/// What kind of reason an [`ExecuteError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecuteErrorKind {
    /// Another call is running it: retry.
    InFlight,
    /// The key was used with different input. A retry does not help.
    Mismatch,
    /// An earlier attempt was interrupted: **whether it took effect is unknown**. Check, and then call
    /// with a new key; or set [`Policy::on_abandoned`](crate::Policy::on_abandoned).
    OutcomeUnknown,
    /// **It was done**, and its result was not stored.
    NotRetained,
    /// **It was done**, and what is stored cannot be read as the requested type: another
    /// release has stored it.
    Unreadable,
    /// **It was done**, and what is stored is an HTTP response and not a result: it can only have
    /// come from a recovery function.
    HttpResponse,
    /// The key is empty or longer than 255 bytes, or [`KeyAge::Ttl`](crate::KeyAge::Ttl) says that it is from the future. Nothing has run.
    InvalidKey,
    /// The key is older than the TTL and has no record ([`KeyAge::Ttl`](crate::KeyAge::Ttl)): it may have been done, and its record is
    /// gone. Nothing has run *now*, and a retry is of no use.
    KeyExpired,
    /// Scope, key or input have no JSON of their own: they do not serialize, or another value has the
    /// same JSON, as NaN and `None` have. Or the label has more than 64 bytes. The source says which. Nothing has run.
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

    /// What kind of reason it is.
    #[must_use]
    pub fn kind(&self) -> ExecuteErrorKind {
        self.kind
    }

    /// After how long a retry with the same key makes sense; `None` when it is not.
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
