use std::fmt;

/// Why an [`Idempotency`](crate::Idempotency) could not be set up, or could not do what an operator
/// asked for.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What kind of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store's URL is not one.
    InvalidUrl,
    /// No store of this version has the URL's scheme.
    UnknownScheme,
    /// The store exists, but its cargo feature is off; the message names the feature.
    FeatureDisabled,
    /// The name of a table or a prefix is not a plain identifier.
    InvalidName,
    /// The store has no transactions, or is not of the database that the handlers write to.
    NoTransactions,
    /// The store cannot be used: it is not there, refuses us, or is not as it should be. The
    /// [`source`](std::error::Error::source) says why.
    Store,
    /// An [`Locator`](crate::Locator) names no key: what it has is not what a client can send, or
    /// does not serialize.
    InvalidIdentity,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same error, with what caused it.
    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it is.
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

/// The message and its causes: this is what an application shows that returns it from `main`.
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
