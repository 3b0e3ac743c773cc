//! The bytes of a stored response: a version byte, then one map of CBOR.
//!
//! | tag | | value |
//! | --: | --- | --- |
//! | 0 | status | unsigned integer |
//! | 2 | headers, in order; absent where there are none | array of headers |
//! | 4 | body; absent in a tombstone | byte string |
//! | 5 | trace context of the completed attempt; absent where there is none | text |
//! | 6 | trailers; absent where there are none | array of headers |
//! | 7 | audit line; absent unless an operator decided | array of the time (ms since 1970), who (text), why (text) |
//!
//! A header is an array of its name (text), its value (byte string), and `true` if the value is sensitive.
//! More elements after these are optional, as if they had odd tags.
//!
//! **An even tag is required**: a reader that does not know it refuses the record, because the response
//! would be another one without it. **An odd tag is optional**: a reader that does not know it leaves it out.
//! These are reserved: 1 operation, 3 label, 8 seal (of an encrypted response),
//! 9 that the client has seen the response. (Operation and label are known before there is a response:
//! each store has them in places of their own.)
//!
//! The version byte changes only when these rules do. `tests/golden` has a response of each version.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::cbor::{Malformed, Reader, Writer};
use super::{AuditLine, StoredResponse};

const VERSION: u8 = 1;

/// The numbers of the fields. Even ones are required, odd ones optional.
mod tag {
    pub(super) const STATUS: u64 = 0;
    pub(super) const HEADERS: u64 = 2;
    pub(super) const BODY: u64 = 4;
    pub(super) const TRACE_CONTEXT: u64 = 5;
    pub(super) const TRAILERS: u64 = 6;
    pub(super) const AUDIT: u64 = 7;
}

/// Why the bytes of a stored response could not be read.
///
/// A store reports such a record as corrupt. It must never treat the record as absent, because the request was carried
/// out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Written by a newer release of this crate.
    #[error("stored response has format version {0}; this release reads version 1")]
    Version(u8),
    /// Written by a newer release of this crate, with a required field that this release does not know.
    #[error("stored response has the required field {0}, which this release does not know")]
    RequiredField(u64),
    /// No release wrote these bytes.
    #[error("stored response is malformed")]
    Malformed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<Malformed> for DecodeError {
    fn from(cause: Malformed) -> Self {
        Self::Malformed(cause)
    }
}

impl StoredResponse {
    /// The response as bytes, for a store that holds bytes.
    ///
    /// The first byte is the format's version, 1, and is never 0. The rest is one CBOR map (RFC 8949) whose keys are
    /// numbers; a later release may add fields. A reader ignores optional fields (odd numbers) that it does not know,
    /// and refuses required ones (even numbers).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (trailers, trace_context) = (self.trailers(), self.trace_context());
        let fields = 1
            + usize::from(!self.headers.is_empty())
            + usize::from(self.body.is_some())
            + usize::from(trailers.is_some())
            + usize::from(trace_context.is_some())
            + usize::from(self.audit().is_some());
        let mut bytes = Vec::with_capacity(self.size_bytes());
        bytes.push(VERSION);
        let mut writer = Writer::new(bytes);
        writer.map(fields);
        writer.uint(tag::STATUS);
        writer.uint(self.status.into());
        if !self.headers.is_empty() {
            writer.uint(tag::HEADERS);
            write_headers(&mut writer, &self.headers);
        }
        if let Some(body) = &self.body {
            writer.uint(tag::BODY);
            writer.bytes(body);
        }
        if let Some(trace_context) = trace_context {
            writer.uint(tag::TRACE_CONTEXT);
            writer.text(trace_context);
        }
        if let Some(trailers) = trailers {
            writer.uint(tag::TRAILERS);
            write_headers(&mut writer, trailers);
        }
        if let Some(audit) = self.audit() {
            writer.uint(tag::AUDIT);
            audit.write(&mut writer);
        }
        writer.finish()
    }

    /// Reads the bytes that [`encode`](Self::encode) wrote. The response does not share the memory of `bytes`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes are of another version, have a required field that this release does not know, or
    /// are damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let bytes = match bytes.split_first() {
            Some((&VERSION, bytes)) => bytes,
            Some((&version, _)) => return Err(DecodeError::Version(version)),
            None => return Err(malformed("no version byte")),
        };
        let mut reader = Reader::new(bytes);
        let (mut status, mut headers, mut body, mut trailers) = (None, None, None, None);
        let (mut trace_context, mut audit) = (None, None);
        for _ in 0..reader.map()? {
            let is_first = match reader.uint()? {
                tag::STATUS => {
                    let number = u16::try_from(reader.uint()?);
                    let number = number.map_err(|error| DecodeError::Malformed(error.into()))?;
                    status.replace(number).is_none()
                }
                tag::HEADERS => headers.replace(read_headers(&mut reader)?).is_none(),
                tag::BODY => body.replace(reader.bytes()?).is_none(),
                tag::TRAILERS => trailers.replace(read_headers(&mut reader)?).is_none(),
                tag::TRACE_CONTEXT => trace_context.replace(reader.text_bytes()?).is_none(),
                tag::AUDIT => audit.replace(AuditLine::read(&mut reader)?).is_none(),
                unknown if unknown % 2 == 0 => return Err(DecodeError::RequiredField(unknown)),
                _ => {
                    reader.skip()?;
                    true
                }
            };
            if !is_first {
                return Err(malformed("a field given twice"));
            }
        }
        if reader.left() > 0 {
            return Err(malformed("bytes after the end"));
        }
        let mut response = Self {
            status: status.ok_or_else(|| malformed("no status"))?,
            headers: headers.unwrap_or_default(),
            body: body.map(Bytes::copy_from_slice),
            more: None,
        };
        if let Some(trailers) = trailers {
            response = response.with_trailers(trailers);
        }
        if let Some(Ok(trace_context)) = trace_context.map(str::from_utf8) {
            response = response.with_trace_context(trace_context);
        }
        Ok(match audit {
            Some(audit) => response.with_audit(audit),
            None => response,
        })
    }
}

fn write_headers(writer: &mut Writer, headers: &HeaderMap) {
    writer.array(headers.len());
    for (name, value) in headers {
        let is_sensitive = value.is_sensitive();
        writer.array(if is_sensitive { 3 } else { 2 });
        writer.text(name.as_str());
        writer.bytes(value.as_bytes());
        if is_sensitive {
            writer.flag(true);
        }
    }
}

/// The shortest header: the array, a name of one byte, an empty value.
const SHORTEST_HEADER: usize = 4;

fn read_headers(reader: &mut Reader<'_>) -> Result<HeaderMap, Malformed> {
    let count = reader.array()?;
    // As many as can be there, whatever the bytes claim.
    let room = count.min(reader.left() / SHORTEST_HEADER);
    let mut headers = HeaderMap::try_with_capacity(room).unwrap_or_default();
    for _ in 0..count {
        let elements = reader.array()?;
        let name = HeaderName::from_bytes(reader.text_bytes()?)?;
        let mut value = HeaderValue::from_bytes(reader.bytes()?)?;
        value.set_sensitive(elements > 2 && reader.flag()?);
        for _ in 3..elements {
            reader.skip()?;
        }
        // A map has room for 24,576 names, and panics where it is not asked like this.
        headers.try_append(name, value)?;
    }
    Ok(headers)
}

fn malformed(what: &'static str) -> DecodeError {
    DecodeError::Malformed(what.into())
}

#[cfg(test)]
mod tests;
