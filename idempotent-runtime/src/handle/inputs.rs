use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::Error as _;

use crate::canonical::to_canonical;
use crate::operation::MAX_LABEL_BYTES;

/// What the expressions of one `#[idempotent]` evaluated to for one request.
#[derive(Default)]
pub struct Inputs {
    pub(crate) scope: Option<Vec<u8>>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) fingerprint: Option<Vec<u8>>,
    pub(crate) label: Option<Arc<str>>,
    arguments: Vec<Vec<u8>>,
    pub(crate) error: Option<serde_json::Error>,
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

    /// The application's own reference, stored in clear for operators. An empty one is the same as no label, and
    /// one of more than 64 bytes is refused before anything runs, as an expression that does not serialize is.
    #[must_use]
    pub fn label<T: fmt::Display + ?Sized>(mut self, value: &T) -> Self {
        let label = value.to_string();
        if label.len() > MAX_LABEL_BYTES {
            let message = format!(
                "a label has at most 64 bytes, and this one has {}",
                label.len()
            );
            self.error = Some(serde_json::Error::custom(message));
        } else if !label.is_empty() {
            self.label = Some(label.into());
        }
        self
    }

    /// One more argument of a function without HTTP. Two calls are compared by all of them where
    /// there is no fingerprint.
    #[must_use]
    pub fn argument<T: Argument + ?Sized>(mut self, value: &T) -> Self {
        let json = self.kept(value.to_canonical());
        self.arguments.extend(json);
        self
    }

    /// What two calls of a function without HTTP are compared by: its arguments are one tuple.
    pub(crate) fn fingerprint_or_arguments(&self) -> Vec<u8> {
        match &self.fingerprint {
            Some(fingerprint) => fingerprint.clone(),
            None => [b"[", &*self.arguments.join(&b','), b"]"].concat(),
        }
    }

    fn serialized<T: Serialize + ?Sized>(&mut self, value: &T) -> Option<Vec<u8>> {
        self.kept(to_canonical(value))
    }

    fn kept(&mut self, json: Result<Vec<u8>, serde_json::Error>) -> Option<Vec<u8>> {
        match json {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }
}

/// An argument that two calls of a function without HTTP can be compared by.
#[diagnostic::on_unimplemented(
    message = "two calls cannot be compared by `{Self}`: it is not `Serialize`",
    label = "not `Serialize`",
    note = "two calls under one key are compared by all arguments but the handle: to leave this one out, name those that count, as in `fingerprint = order`"
)]
pub trait Argument {
    /// Its canonical JSON.
    #[expect(clippy::missing_errors_doc, reason = "as `Serialize` has it")]
    fn to_canonical(&self) -> Result<Vec<u8>, serde_json::Error>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> Argument for T {
    fn to_canonical(&self) -> Result<Vec<u8>, serde_json::Error> {
        to_canonical(self)
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
