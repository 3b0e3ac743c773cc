//! Fingerprints: is this the same request, or another one under the same key?
//!
//! A key that is used again with another body is a bug in the client (or an attacker who guesses keys). Such a request
//! must neither run nor get the first response (draft-ietf-httpapi-idempotency-key-header-07, section 2.4). Requests
//! with the same key are compared by their fingerprints.

use std::borrow::Cow;
use std::fmt;

use sha2::digest::Update;
use sha2::{Digest as _, Sha256};

use crate::digest::{Digest, Frames};

mod form;

use form::Form;

/// The 32-byte digest of a request (method, path and query, media type, content, and the headers that
/// the application names) or of the input of a function without HTTP. A `multipart/form-data`
/// body is digested by its parts, not by its boundary.
///
/// Equal fingerprints mean equal requests; SHA-256 (or BLAKE3: see [`Digest`]) makes a collision
/// infeasible even for an attacker who searches for one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// The part of a request that [`FingerprintSource`](crate::FingerprintSource) chose, as bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    Body(&'a [u8]),
    CanonicalJson(&'a [u8]),
    Fields(&'a [u8]),
}

impl Fingerprint {
    /// For input that is not a request. The high bit separates the two, whatever versions follow.
    const INPUT_VERSION: u8 = 0x81;

    /// Wraps 32 bytes. For stores that read fingerprints back, and for tests.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored unchanged.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest of a function's input, as canonical JSON. Never equal to the fingerprint of a request.
    pub(crate) fn of_input(json: &[u8]) -> Self {
        let digest = Frames::new(Sha256::new(), Self::INPUT_VERSION)
            .field(json)
            .into_inner();
        Self(digest.finalize().into())
    }

    pub(crate) fn of_request(digest: Digest, request: &Request<'_>) -> Self {
        Self(match digest {
            Digest::Sha256 => request.framed(Sha256::new(), 1).finalize().into(),
            #[cfg(feature = "blake3")]
            Digest::Blake3 => {
                let digest = crate::digest::Blake3(blake3::Hasher::new());
                request.framed(digest, 2).0.finalize().into()
            }
        })
    }
}

/// What the fingerprint of a request is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path_and_query: &'a str,
    pub(crate) content_type: Option<&'a [u8]>,
    /// The headers that the application names, as one field; `None` where it names none.
    pub(crate) headers: Option<&'a [u8]>,
    pub(crate) content: Content<'a>,
}

impl Request<'_> {
    fn framed<D: Update>(&self, digest: D, version: u8) -> D {
        let form = match self.content {
            Content::Body(body) => self.content_type.and_then(|it| Form::of(it, body)),
            Content::CanonicalJson(_) | Content::Fields(_) => None,
        };
        let media_type = match form {
            // The boundary is included, because the body cannot be read without it.
            Some(Form::Unreadable) => self.content_type.map(Cow::Borrowed),
            Some(Form::Pieces(_)) | None => self.content_type.map(essence),
        };
        let frames = Frames::new(digest, version)
            .field(self.method.as_bytes())
            .field(self.path_and_query.as_bytes())
            .optional(media_type.as_deref());
        let frames = match (form, self.content) {
            (Some(Form::Pieces(pieces)), _) => {
                let frames = frames.field(b"form").count(pieces.len());
                pieces.into_iter().fold(frames, Frames::field)
            }
            (_, Content::Body(bytes)) => frames.field(b"body").field(bytes),
            (_, Content::CanonicalJson(bytes)) => frames.field(b"json").field(bytes),
            (_, Content::Fields(bytes)) => frames.field(b"flds").field(bytes),
        };
        match self.headers {
            Some(headers) => frames.field(headers),
            None => frames,
        }
        .into_inner()
    }
}

/// The type and subtype, without parameters, in lower case (RFC 9110, section 8.3.1): a client
/// that adds `; charset=utf-8` to a retry sends the same request.
fn essence(content_type: &[u8]) -> Cow<'_, [u8]> {
    let essence = content_type
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    let essence = essence.trim_ascii();
    if essence.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(essence.to_ascii_lowercase())
    } else {
        Cow::Borrowed(essence)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Fingerprint({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

#[cfg(test)]
mod tests;
