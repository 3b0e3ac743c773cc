//! The bytes of a stored response: a version byte, then one map of CBOR.
//!
//! | tag | | value |
//! | --: | --- | --- |
//! | 0 | status | unsigned integer |
//! | 2 | headers, in order; absent where there are none | array of headers |
//! | 4 | body; absent in a tombstone | byte string |
//! | 6 | trailers; absent where there are none | array of headers |
//!
//! A header is an array of its name (text), its value (byte string), and `true` if the value is sensitive.
//! More elements after these are optional, as if they had odd tags.
//!
//! **An even tag is required**: a reader that does not know it refuses the record, because the response
//! would be another one without it. **An odd tag is optional**: a reader that does not know it leaves it out.
//! These are reserved: 1 operation, 3 label, 5 trace context, 7 audit line, 8 seal (of an encrypted response),
//! 9 that the client has seen the response. (Operation and label are known before there is a response:
//! each store has them in places of their own.)
//!
//! The version byte changes only when these rules do. `tests/golden` has a response of each version.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::StoredResponse;
use super::cbor::{Malformed, Reader, Writer};

const VERSION: u8 = 1;

/// The numbers of the fields. Even ones are required, odd ones optional.
mod tag {
    pub(super) const STATUS: u64 = 0;
    pub(super) const HEADERS: u64 = 2;
    pub(super) const BODY: u64 = 4;
    pub(super) const TRAILERS: u64 = 6;
}

/// Why the bytes of a stored response could not be read.
///
/// A store reports it as corruption. It must never take such a record as absent: the effect it
/// stands for has happened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Written by a newer release of this crate.
    #[error("stored response has format version {0}, this release reads version 1")]
    Version(u8),
    /// Written by a newer release of this crate, with a field without which the response is another one.
    #[error("stored response has the required field {0}, which this release does not know")]
    RequiredField(u64),
    /// Not what any release wrote.
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
    /// The first byte is the format's version, 1, and is never 0. What follows is one map of CBOR
    /// (RFC 8949) whose keys are numbers: a later release may add fields. A reader leaves out optional fields
    /// (odd numbers) that it does not know, and refuses required ones (even numbers).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let trailers = self.trailers();
        let fields = 1
            + usize::from(!self.headers.is_empty())
            + usize::from(self.body.is_some())
            + usize::from(trailers.is_some());
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
        if let Some(trailers) = trailers {
            writer.uint(tag::TRAILERS);
            write_headers(&mut writer, trailers);
        }
        writer.finish()
    }

    /// Reads what [`encode`](Self::encode) wrote. Nothing of the response shares the memory of `bytes`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes are another version's, have a required field that this release does not
    /// know, or are damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let bytes = match bytes.split_first() {
            Some((&VERSION, bytes)) => bytes,
            Some((&version, _)) => return Err(DecodeError::Version(version)),
            None => return Err(malformed("no version byte")),
        };
        let mut reader = Reader::new(bytes);
        let (mut status, mut headers, mut body, mut trailers) = (None, None, None, None);
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
        let response = Self {
            status: status.ok_or_else(|| malformed("no status"))?,
            headers: headers.unwrap_or_default(),
            body: body.map(Bytes::copy_from_slice),
            trailers: None,
        };
        Ok(match trailers {
            Some(trailers) => response.with_trailers(trailers),
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::CompactResponse;

    fn response() -> StoredResponse {
        let mut headers = HeaderMap::new();
        headers.append("x-multi", HeaderValue::from_static("1"));
        headers.append("location", HeaderValue::from_static("/payments/1"));
        headers.append("x-multi", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        let body = Some(Bytes::from((0..=255).collect::<Vec<u8>>()));
        StoredResponse {
            status: 201,
            headers,
            body,
            trailers: None,
        }
    }

    fn with_trailers() -> StoredResponse {
        let mut trailers = HeaderMap::new();
        trailers.append("grpc-status", HeaderValue::from_static("0"));
        response().with_trailers(trailers)
    }

    #[test]
    fn every_byte_survives() {
        for response in [
            response(),
            with_trailers(),
            StoredResponse {
                headers: HeaderMap::new(),
                ..response()
            },
            StoredResponse {
                body: None,
                ..response()
            },
            StoredResponse {
                body: Some(Bytes::new()),
                ..response()
            },
        ] {
            let decoded = StoredResponse::decode(&response.encode()).unwrap();
            assert_eq!(decoded, response);
            assert_eq!(decoded.trailers(), response.trailers());
        }
    }

    #[test]
    fn sensitive_values_stay_so() {
        let mut response = with_trailers();
        for (index, value) in response.headers.values_mut().enumerate() {
            value.set_sensitive(index != 1);
        }
        for value in response.trailers.iter_mut().flat_map(|it| it.values_mut()) {
            value.set_sensitive(true);
        }
        let encoded = response.encode();
        let decoded = StoredResponse::decode(&encoded).unwrap();
        assert_eq!(decoded, response);
        let is_sensitive = |headers: &HeaderMap| -> Vec<bool> {
            headers.values().map(HeaderValue::is_sensitive).collect()
        };
        assert_eq!(is_sensitive(&decoded.headers), [true, false, true]);
        assert_eq!(is_sensitive(decoded.trailers().unwrap()), [true]);
        for length in 0..encoded.len() {
            assert!(StoredResponse::decode(&encoded[..length]).is_err());
        }
    }

    /// A response of status 200 with one more field.
    fn with_field(tag: u64, value: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::new(vec![VERSION]);
        writer.map(2);
        writer.uint(tag::STATUS);
        writer.uint(200);
        writer.uint(tag);
        value(&mut writer);
        writer.finish()
    }

    #[test]
    fn an_unknown_optional_field_is_left_out_whatever_it_is() {
        let expected = StoredResponse::tombstone(http::StatusCode::OK, HeaderMap::new());
        for bytes in [
            with_field(11, |field| field.text("of a newer release")),
            with_field(u64::MAX, |field| field.flag(true)),
            with_field(1, |field| {
                field.array(2);
                field.map(1);
                field.uint(0);
                field.bytes(b"deeper");
                field.uint(7);
            }),
        ] {
            assert_eq!(StoredResponse::decode(&bytes).unwrap(), expected);
        }
        // The same inside of a header.
        let bytes = with_field(tag::HEADERS, |field| {
            field.array(1);
            field.array(5);
            field.text("x-some");
            field.bytes(b"value");
            field.flag(false);
            field.text("of a newer release");
            field.uint(1);
        });
        let decoded = StoredResponse::decode(&bytes).unwrap();
        assert_eq!(decoded.headers["x-some"], "value");
    }

    #[test]
    fn an_unknown_required_field_is_refused_and_named() {
        let bytes = with_field(10, |field| field.text("of a newer release"));
        let error = StoredResponse::decode(&bytes).unwrap_err();
        assert!(matches!(error, DecodeError::RequiredField(10)));
        assert_eq!(
            error.to_string(),
            "stored response has the required field 10, which this release does not know"
        );
    }

    #[test]
    fn lengths_that_only_the_bytes_claim_and_deep_nesting_are_errors() {
        // 2^63 elements of an array, entries of a map, bytes of a string.
        for head in [0x9b, 0xbb, 0x5b, 0x7b] {
            let claim = [&[head][..], &[0x80, 0, 0, 0, 0, 0, 0, 0]].concat();
            for tag in [tag::HEADERS, tag::BODY, 1] {
                let mut bytes = with_field(tag, |_| {});
                bytes.extend_from_slice(&claim);
                assert!(StoredResponse::decode(&bytes).is_err());
            }
        }
        let mut bytes = with_field(1, |_| {});
        bytes.extend(std::iter::repeat_n(0x81, 1_000_000));
        assert!(StoredResponse::decode(&bytes).is_err());
    }

    #[test]
    fn a_field_given_twice_is_damage() {
        let bytes = with_field(tag::STATUS, |field| field.uint(200));
        let error = StoredResponse::decode(&bytes).unwrap_err();
        assert!(matches!(error, DecodeError::Malformed(_)));
    }

    #[test]
    fn a_newer_version_is_refused_and_named() {
        let mut bytes = response().encode();
        bytes[0] = 9;
        assert!(matches!(
            StoredResponse::decode(&bytes),
            Err(DecodeError::Version(9))
        ));
    }

    #[test]
    fn damage_is_an_error_and_never_a_response() {
        let bytes = response().encode();
        for length in 0..bytes.len() {
            assert!(
                StoredResponse::decode(&bytes[..length]).is_err(),
                "cut to {length}"
            );
        }
        assert!(StoredResponse::decode(&[bytes, vec![0]].concat()).is_err());
    }

    fn encoded(headers: &[(String, &[u8])]) -> Vec<u8> {
        with_field(tag::HEADERS, |field| {
            field.array(headers.len());
            for (name, value) in headers {
                field.array(2);
                field.text(name);
                field.bytes(value);
            }
        })
    }

    #[test]
    fn more_headers_than_a_map_can_hold_are_damage_and_no_panic() {
        let names = |count: u32| (0..count).map(|n| (format!("x-{n}"), &b"v"[..]));
        for (count, is_readable) in [(24_576, true), (24_577, false), (40_000, false)] {
            let bytes = encoded(&names(count).collect::<Vec<_>>());
            assert_eq!(
                StoredResponse::decode(&bytes).is_ok(),
                is_readable,
                "{count}"
            );
        }
    }

    /// They are one entry of the map, which has no such limit.
    #[test]
    fn one_header_given_very_often_survives() {
        let bytes = encoded(&vec![("x-multi".to_owned(), &b"v"[..]); 40_000]);
        let decoded = StoredResponse::decode(&bytes).unwrap();
        assert_eq!(decoded.headers.len(), 40_000);
        assert_eq!(StoredResponse::decode(&decoded.encode()).unwrap(), decoded);
        assert_eq!(*CompactResponse::from(&decoded).to_stored(), decoded);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_bytes_decode_or_are_an_error(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            is_current in any::<bool>(),
        ) {
            if let (Some(version), true) = (bytes.first_mut(), is_current) {
                *version = VERSION;
            }
            if let Ok(response) = StoredResponse::decode(&bytes) {
                prop_assert_eq!(StoredResponse::decode(&response.encode()).unwrap(), response);
            }
        }

        #[test]
        fn mutated_bytes_decode_or_are_an_error(
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
            cut in proptest::option::of(any::<proptest::sample::Index>()),
        ) {
            let mut bytes = with_trailers().encode();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Ok(response) = StoredResponse::decode(&bytes) {
                prop_assert_eq!(StoredResponse::decode(&response.encode()).unwrap(), response);
            }
        }
    }
}
