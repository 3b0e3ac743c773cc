//! Digests, and length-prefixed hashing: the one place where fields become digest input.
//!
//! With plain concatenation, two different lists of fields could collide: `("10", "0USD")` and
//! `("100", "USD")` are the same bytes. Every field is therefore preceded by its length, and an
//! absent field is not the same as an empty field.

use sha2::digest::Update;

/// The hash function for fingerprints: see [`IdempotencyBuilder::digest`](crate::IdempotencyBuilder::digest).
///
/// Both are cryptographic: finding two requests with the same digest is infeasible, which matters if clients do
/// not trust each other. A fingerprint made with one is never equal to a fingerprint made with the other. Record
/// keys are always made with SHA-256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Digest {
    /// SHA-256, with the processor's SHA instructions if it has them.
    #[default]
    Sha256,
    /// BLAKE3, which is faster for bodies of more than a few KiB. Needs the cargo feature `blake3`,
    /// and a C compiler to build.
    #[cfg(feature = "blake3")]
    Blake3,
}

impl Digest {
    /// The other digest, which a process with another setting may have used for a record.
    pub(crate) fn other(self) -> Option<Self> {
        match self {
            #[cfg(feature = "blake3")]
            Self::Sha256 => Some(Self::Blake3),
            #[cfg(feature = "blake3")]
            Self::Blake3 => Some(Self::Sha256),
            #[cfg(not(feature = "blake3"))]
            Self::Sha256 => None,
        }
    }
}

/// BLAKE3 as a digest to which frames can be added.
#[cfg(feature = "blake3")]
pub(crate) struct Blake3(pub(crate) blake3::Hasher);

#[cfg(feature = "blake3")]
impl Update for Blake3 {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

/// Adds fields to a digest so that two different lists of fields never give the same input.
pub(crate) struct Frames<D>(D);

impl<D: Update> Frames<D> {
    /// `version` separates digests made for different purposes, or by different releases.
    pub(crate) fn new(mut digest: D, version: u8) -> Self {
        digest.update(&[version]);
        Self(digest)
    }

    /// Adds one field: its length as a little-endian `u64`, then its bytes.
    pub(crate) fn field(self, bytes: &[u8]) -> Self {
        self.joined(&[bytes])
    }

    /// Adds one field that consists of several pieces.
    pub(crate) fn joined(mut self, pieces: &[&[u8]]) -> Self {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.0.update(&(length as u64).to_le_bytes());
        for piece in pieces {
            self.0.update(piece);
        }
        self
    }

    /// Adds the number of the fields that follow.
    pub(crate) fn count(mut self, count: usize) -> Self {
        self.0.update(&(count as u64).to_le_bytes());
        self
    }

    /// Adds a field that may be absent: one byte says whether it is present, then the field follows.
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
