use std::fmt;

/// An error from setting up an [`Idempotency`](crate::Idempotency), or from an operator's function.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store's URL is invalid.
    InvalidUrl,
    /// No store in this version has the URL's scheme.
    UnknownScheme,
    /// The store exists, but its cargo feature is disabled; the message names the feature.
    FeatureDisabled,
    /// The name of a table or a prefix is not a plain identifier.
    InvalidName,
    /// The store has no transactions, or uses another kind of database than the handlers.
    NoTransactions,
    /// The store cannot be used: it is unreachable, refuses the connection, or is not in the expected state. The
    /// [`source`](std::error::Error::source) says why.
    Store,
    /// The table or the file does not exist yet: see [`Target::open`](crate::store::Target::open).
    NotMigrated,
    /// A [`Locator`](crate::Locator) does not name a key: its key is not one that a client can send, or
    /// its key or scope cannot be serialized. Also: a text is not that of a [`Seen`](crate::Seen) or of a
    /// [`ListCursor`](crate::store::ListCursor).
    InvalidLocator,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same error, with its cause.
    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The message and its causes. An application that returns the error from `main` prints this.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
