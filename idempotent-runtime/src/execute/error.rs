use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::engine::Refusal;

/// Why [`Idempotency::execute`](crate::Idempotency::execute) has no outcome.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError<E> {
    /// The function's own error. Nothing was stored, and the key is free (unless an attempt before it
    /// has crashed).
    #[error(transparent)]
    Function(E),
    /// Nothing has run, or nothing has run again.
    #[error(transparent)]
    NoResult(#[from] NoResult),
}

/// Why there is no result, of a function under `#[idempotent]` or of
/// [`Idempotency::execute`](crate::Idempotency::execute).
///
/// It does not say that nothing happened: see the [kinds](NoResultKind).
///
/// A function under the attribute answers with it through its own error type, which therefore is
/// `From<NoResult>`:
///
/// ```
/// use idempotent_runtime::NoResult;
///
/// enum SettleError {
///     Unreachable,
///     /// Deliver the message again after this time, or put it aside.
///     NoResult(NoResult),
/// }
///
/// impl From<NoResult> for SettleError {
///     fn from(reason: NoResult) -> Self {
///         Self::NoResult(reason)
///     }
/// }
/// ```
#[derive(Debug)]
pub struct NoResult {
    kind: NoResultKind,
    retry_after: Option<Duration>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of reason a [`NoResult`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoResultKind {
    /// Somebody else is running it: come again.
    InFlight,
    /// The key belongs to another input. Coming again is of no use.
    Mismatch,
    /// An earlier attempt was cut off: **whether it took effect is not known**. Look, and then call
    /// with a new key; or set [`Policy::on_abandoned`](crate::Policy::on_abandoned).
    Unknown,
    /// **It was done**, and its result was not kept.
    NotRetained,
    /// **It was done**, and what is stored cannot be read as the type that is asked for: another
    /// release has stored it.
    Unreadable,
    /// **It was done**, and what is stored is an HTTP response and not a result: it can only have
    /// come from a recovery function.
    HttpResponse,
    /// The key is empty or longer than 255 bytes. Nothing has run.
    InvalidKey,
    /// Scope, key or input have no JSON of their own: they do not serialize, or another value has the
    /// same JSON, as NaN and `None` have. The source says which. Nothing has run.
    UnusableInput,
    /// The records cannot be read or written at the moment. Nothing has run; come again.
    Store,
    /// This instance takes no new work. Nothing has run; come again, to another one.
    ShuttingDown,
}

impl NoResult {
    pub(super) fn new(kind: NoResultKind) -> Self {
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
            Refusal::ShuttingDown => Self::new(NoResultKind::ShuttingDown),
            Refusal::Store(error) | Refusal::Unread(error) => {
                Self::new(NoResultKind::Store).caused_by(error)
            }
            Refusal::NoToken(error) => Self::new(NoResultKind::Store).caused_by(error),
        };
        reason.retry_in(Duration::from_secs(1))
    }

    /// What kind of reason it is.
    #[must_use]
    pub fn kind(&self) -> NoResultKind {
        self.kind
    }

    /// When it is worth coming again with the same key; `None` when it is not.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for NoResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            NoResultKind::InFlight => "it is being executed by somebody else",
            NoResultKind::Mismatch => "the key belongs to another input",
            NoResultKind::Unknown => "an earlier attempt was cut off, its outcome is unknown",
            NoResultKind::NotRetained => "it was executed before, and its result was not kept",
            NoResultKind::Unreadable => "the stored result is not of the type that is asked for",
            NoResultKind::HttpResponse => "the record holds an HTTP response and not a result",
            NoResultKind::InvalidKey => "the key cannot be used",
            NoResultKind::UnusableInput => "scope, key or input cannot be used",
            NoResultKind::Store => "the store could not be asked",
            NoResultKind::ShuttingDown => "the service is shutting down",
        })
    }
}

impl Error for NoResult {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
