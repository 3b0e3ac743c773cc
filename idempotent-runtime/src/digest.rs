//! Length-prefixed hashing: the one place where fields become digest input.
//!
//! Plain concatenation would let two different lists of fields meet: `("10", "0USD")` and
//! `("100", "USD")` are the same bytes. Every field therefore goes in behind its length, and an
//! absent field is not the same as an empty one.

use sha2::digest::Update;

/// Adds fields to a digest so that no two different lists of fields give the same input.
pub(crate) struct Frames<D>(D);

impl<D: Update> Frames<D> {
    /// `version` separates digests made for different purposes, or by different releases.
    pub(crate) fn new(mut digest: D, version: u8) -> Self {
        digest.update(&[version]);
        Self(digest)
    }

    /// Adds one field: its length as a little-endian `u64`, then its bytes.
    pub(crate) fn field(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a field that may be absent: one byte says which, then the field.
    pub(crate) fn optional(mut self, bytes: Option<&[u8]>) -> Self {
        self.0.update(&[u8::from(bytes.is_some())]);
        match bytes {
            Some(bytes) => self.field(bytes),
            None => self,
        }
    }

    pub(crate) fn into_inner(self) -> D {
        self.0
    }
}
