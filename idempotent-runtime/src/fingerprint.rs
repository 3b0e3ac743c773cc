//! Fingerprints: is this the same request, or another one under the same key?
//!
//! A key that comes back with another body is a client's bug (or somebody guessing keys), and must
//! neither run nor be shown the first answer
//! (draft-ietf-httpapi-idempotency-key-header-07, section 2.4). The fingerprint is what the two
//! requests are compared by.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::digest::Frames;

/// The 32-byte digest of a request: method, path and query, media type, and content; or of what a
/// function without HTTP is called with.
///
/// Equal fingerprints mean equal requests; SHA-256 makes a collision infeasible even for somebody
/// who looks for one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// The part of a request that [`FingerprintOf`](crate::FingerprintOf) chose, as bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    Body(&'a [u8]),
    CanonicalJson(&'a [u8]),
    Fields(&'a [u8]),
}

impl Fingerprint {
    const VERSION: u8 = 1;

    /// Of what is no request. The high bit keeps them apart, whatever versions there will be.
    const INPUT_VERSION: u8 = 0x81;

    /// Wraps 32 bytes, for a store that reads fingerprints back and for tests.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored as they are.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn of_request(
        method: &str,
        path_and_query: &str,
        content_type: Option<&[u8]>,
        content: Content<'_>,
    ) -> Self {
        let (kind, bytes) = match content {
            Content::Body(bytes) => (b"body", bytes),
            Content::CanonicalJson(bytes) => (b"json", bytes),
            Content::Fields(bytes) => (b"flds", bytes),
        };
        let media_type = content_type.map(essence);
        let digest = Frames::new(Sha256::new(), Self::VERSION)
            .field(method.as_bytes())
            .field(path_and_query.as_bytes())
            .optional(media_type.as_deref())
            .field(kind)
            .field(bytes)
            .into_inner();
        Self(digest.finalize().into())
    }

    /// The digest of a function's input, as canonical JSON. No request has it.
    pub(crate) fn of_input(json: &[u8]) -> Self {
        let digest = Frames::new(Sha256::new(), Self::INPUT_VERSION)
            .field(json)
            .into_inner();
        Self(digest.finalize().into())
    }
}

/// The type and subtype, without parameters, in lower case (RFC 9110, section 8.3.1): a client
/// that adds `; charset=utf-8` to a retry sends the same request.
fn essence(content_type: &[u8]) -> Vec<u8> {
    let essence = content_type
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    essence.trim_ascii().to_ascii_lowercase()
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Fingerprint({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

#[cfg(test)]
mod tests;
