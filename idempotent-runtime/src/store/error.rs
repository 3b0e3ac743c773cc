use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// A failed store operation.
///
/// The error answers three questions: [may the operation have happened](Self::may_have_happened), [is the error about
/// this item or about the store](Self::is_about_item), and may the same operation succeed later? The last answer is
/// yes, unless the error is about the item.
///
/// The error names the store and keeps its cause as [`source`](Error::source). Clones share the cause.
#[derive(Clone, Debug)]
pub struct StoreError {
    store: &'static str,
    kind: StoreErrorKind,
    may_have_happened: bool,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kind of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// There is no connection, or it broke. The operation may have happened, unless the error says that it was
    /// [never sent](StoreError::not_executed).
    Unavailable,
    /// There was no reply in time. The operation may have happened, unless the error says that it was
    /// [never sent](StoreError::not_executed).
    TimedOut,
    /// The store is running but does not accept the operation now: it is read-only, demoted, loading, short of
    /// replicas, does not know this user, or has no table. Nothing was written.
    Refused,
    /// Another statement or transaction conflicted: a lock, a deadlock, a serialization
    /// failure. Nothing was written.
    Busy,
    /// The store has no room for another record. Nothing was written.
    Full,
    /// The store does not have this operation, now or later. Nothing was written.
    Unsupported,
    /// Another release has written the record, or made the whole table, in a format that this one does not know, as in a
    /// rolling deploy. Nothing was written.
    OtherRelease,
    /// **About the item**: this store can never hold an item of this size. Nothing was written.
    TooLarge,
    /// **About the item**: the record cannot be read. Nothing was written.
    Corrupt,
}

#[cfg(feature = "metrics")]
impl StoreErrorKind {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::Corrupt as usize + 1;

    /// The name, as a label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::Unsupported => "unsupported",
            Self::OtherRelease => "other_release",
            Self::TooLarge => "too_large",
            Self::Corrupt => "corrupt",
        }
    }
}

impl StoreError {
    /// An error of `store` without a cause. With [`Unavailable`](StoreErrorKind::Unavailable) and
    /// [`TimedOut`](StoreErrorKind::TimedOut) the operation may have happened, with the other kinds it has not.
    #[must_use]
    pub fn new(store: &'static str, kind: StoreErrorKind) -> Self {
        let may_have_happened =
            matches!(kind, StoreErrorKind::Unavailable | StoreErrorKind::TimedOut);
        Self {
            store,
            kind,
            may_have_happened,
            source: None,
        }
    }

    /// The same error, with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The same error, for an operation that was certainly not executed: there was no connection to
    /// send it over.
    #[must_use]
    pub fn not_executed(mut self) -> Self {
        self.may_have_happened = false;
        self
    }

    /// The same error, for an operation that may nevertheless have been executed.
    #[must_use]
    pub fn maybe_executed(mut self) -> Self {
        self.may_have_happened = true;
        self
    }

    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether the operation may have happened despite the error, or may still happen.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        self.may_have_happened
    }

    /// Whether the error is about this item (too large, unreadable): the store is not expected to accept the same
    /// item later. Any other error is about the store, or about this moment: the same operation may succeed later.
    #[must_use]
    pub fn is_about_item(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::TooLarge | StoreErrorKind::Corrupt
        )
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            StoreErrorKind::Unavailable => "is unavailable",
            StoreErrorKind::TimedOut => "did not reply in time",
            StoreErrorKind::Refused => "is refusing operations",
            StoreErrorKind::Busy => "reports that the record is locked",
            StoreErrorKind::Full => "is full",
            StoreErrorKind::Unsupported => "does not support this operation",
            StoreErrorKind::OtherRelease => "has records in a format of another release",
            StoreErrorKind::TooLarge => "cannot hold an item of this size",
            StoreErrorKind::Corrupt => "has a record that cannot be read",
        };
        write!(f, "{} store {what}", self.store)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
