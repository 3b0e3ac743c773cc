use std::error::Error;
use std::fmt;

/// A store that did not do what it was asked.
///
/// It names the store and keeps its cause as [`source`](Error::source).
#[derive(Debug)]
pub struct StoreError {
    store: &'static str,
    kind: StoreErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of failure a [`StoreError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// No connection, or it broke. The operation may have happened.
    Unavailable,
    /// No reply in time. The operation may have happened.
    TimedOut,
    /// A bounded store is at its bound. Nothing was written.
    Full,
    /// A record, or the store's schema, cannot be read. Nothing was written.
    Corrupt,
    /// The store refuses the operation for a reason of its own. Nothing was written.
    Rejected,
}

impl StoreError {
    /// An error of `store` without a cause.
    #[must_use]
    pub fn new(store: &'static str, kind: StoreErrorKind) -> Self {
        Self {
            store,
            kind,
            source: None,
        }
    }

    /// The same error, with what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether the operation may have happened all the same.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::Unavailable | StoreErrorKind::TimedOut
        )
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            StoreErrorKind::Unavailable => "is unavailable",
            StoreErrorKind::TimedOut => "did not reply in time",
            StoreErrorKind::Full => "is full",
            StoreErrorKind::Corrupt => "has a record that cannot be read",
            StoreErrorKind::Rejected => "refused the operation",
        };
        write!(f, "{} store {what}", self.store)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
