//! The codes of problems.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The member `code` of an `application/problem+json` from a server with this library.
        ///
        /// `Display` writes the code as it is sent.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// The code as it is sent, such as `in-flight`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// `None` for a code that this version does not know: then the status decides.
            #[must_use]
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// The request came without a key. A proxy removes the header, or the server expects another one.
    MissingKey = "missing-key",
    /// The server does not accept this key.
    InvalidKey = "invalid-key",
    /// Another request was sent with this key before. A programming error.
    KeyReused = "key-reused",
    /// The first request with this key is still running.
    InFlight = "in-flight",
    /// The first request with this key was interrupted, and the server does not know whether it took effect.
    OutcomeUnknown = "outcome-unknown",
    /// The operation has run with this status, but its body was too large to be stored.
    ResponseNotRetained = "response-not-retained",
    /// The server's store is unavailable. Nothing was run.
    StoreUnavailable = "store-unavailable",
    /// The instance is shutting down. Nothing was run.
    ShuttingDown = "shutting-down",
    /// Too many handlers are running. Nothing was run.
    Overloaded = "overloaded",
    /// The handler panicked. It may have taken effect.
    HandlerFailed = "handler-failed",
    /// The service cannot compute the scope, the key or the fingerprint. A bug in the service; nothing was run.
    UnusableInput = "unusable-input",
    /// The key is so old that its record may be gone.
    KeyExpired = "key-expired",
    /// The handler is not protected. It **has run**, without the key, and would run again.
    UnprotectedRoute = "unprotected-route",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
