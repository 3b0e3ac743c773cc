use std::fmt;

use serde::Serialize;

use crate::canonical::to_canonical;

/// What the expressions of one `#[idempotent]` evaluated to for one request.
#[derive(Default)]
pub struct Inputs {
    pub(super) scope: Option<Vec<u8>>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) fingerprint: Option<Vec<u8>>,
    pub(super) error: Option<serde_json::Error>,
}

impl Inputs {
    /// No expressions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whose key it is.
    #[must_use]
    pub fn scope<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        self.scope = self.serialized(value);
        self
    }

    /// The key, made from the handler's arguments.
    #[must_use]
    pub fn key<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        self.key = self.serialized(value);
        self
    }

    /// What the request is compared by.
    #[must_use]
    pub fn fingerprint<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        self.fingerprint = self.serialized(value);
        self
    }

    fn serialized<T: Serialize + ?Sized>(&mut self, value: &T) -> Option<Vec<u8>> {
        match to_canonical(value) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }
}

/// Never the values: they are keys and identities.
impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs")
            .field("scope", &self.scope.is_some())
            .field("key", &self.key.is_some())
            .field("fingerprint", &self.fingerprint.is_some())
            .finish_non_exhaustive()
    }
}
