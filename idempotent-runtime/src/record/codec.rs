//! The bytes of a stored response: a version byte, then postcard. Version 2 has also which headers are
//! sensitive, and is written only where one is.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::StoredResponse;

const VERSION: u8 = 1;
const VERSION_WITH_SENSITIVE: u8 = 2;

/// Why the bytes of a stored response could not be read.
///
/// A store reports it as corruption. It must never take such a record as absent: the effect it
/// stands for has happened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Written by a newer release of this crate.
    #[error("stored response has format version {0}, this release reads up to 2")]
    Version(u8),
    /// Not what any release wrote.
    #[error("stored response is malformed")]
    Malformed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    status: u16,
    #[serde(borrow)]
    headers: Vec<(Raw<'a>, Raw<'a>)>,
    #[serde(borrow)]
    body: Option<Raw<'a>>,
}

/// Bytes that serde moves as one piece and not as a list of numbers.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&'a [u8]>::deserialize(deserializer).map(Raw)
    }
}

impl StoredResponse {
    /// The response as bytes, for a store that holds bytes.
    ///
    /// The first byte is the format's version, so that a later release can read what this one
    /// wrote and this one refuses what it cannot read.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = Wire {
            status: self.status,
            headers: self
                .headers
                .iter()
                .map(|(name, value)| (Raw(name.as_str().as_bytes()), Raw(value.as_bytes())))
                .collect(),
            body: self.body.as_deref().map(Raw),
        };
        let values = self.headers.values().zip(0_u32..);
        let sensitive = values.filter(|(value, _)| value.is_sensitive());
        let sensitive: Vec<u32> = sensitive.map(|(_, index)| index).collect();
        let mut bytes = Vec::with_capacity(self.size_bytes());
        // Into a growing vector: there is nothing in `Wire` that postcard can refuse.
        if sensitive.is_empty() {
            bytes.push(VERSION);
            postcard::to_extend(&wire, bytes).unwrap_or_default()
        } else {
            bytes.push(VERSION_WITH_SENSITIVE);
            postcard::to_extend(&(wire, sensitive), bytes).unwrap_or_default()
        }
    }

    /// Reads what [`encode`](Self::encode) wrote. The body is a copy.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes are another version's or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (version, rest) = bytes
            .split_first()
            .ok_or_else(|| DecodeError::Malformed("no version byte".into()))?;
        let ((wire, sensitive), left): ((Wire<'_>, Vec<u32>), _) = match *version {
            VERSION => {
                let (wire, left) = postcard::take_from_bytes(rest).map_err(malformed)?;
                ((wire, Vec::new()), left)
            }
            VERSION_WITH_SENSITIVE => postcard::take_from_bytes(rest).map_err(malformed)?,
            newer => return Err(DecodeError::Version(newer)),
        };
        // In the order of the headers.
        let mut sensitive = sensitive.into_iter().peekable();
        if !left.is_empty() {
            return Err(DecodeError::Malformed("bytes after the end".into()));
        }
        let mut headers = HeaderMap::try_with_capacity(wire.headers.len()).unwrap_or_default();
        for ((name, value), index) in wire.headers.into_iter().zip(0_u32..) {
            let name = HeaderName::from_bytes(name.0).map_err(malformed)?;
            let mut value = HeaderValue::from_bytes(value.0).map_err(malformed)?;
            value.set_sensitive(sensitive.next_if_eq(&index).is_some());
            // A map has room for 24,576 names, and panics where it is not asked like this.
            headers.try_append(name, value).map_err(malformed)?;
        }
        let body = wire.body.map(|body| Bytes::copy_from_slice(body.0));
        Ok(Self {
            status: wire.status,
            headers,
            body,
        })
    }
}

fn malformed(error: impl std::error::Error + Send + Sync + 'static) -> DecodeError {
    DecodeError::Malformed(Box::new(error))
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
        }
    }

    #[test]
    fn every_byte_survives() {
        for response in [
            response(),
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
            assert_eq!(decoded.headers.get_all("x-multi").iter().count(), 2);
        }
    }

    #[test]
    fn sensitive_values_stay_so() {
        let mut response = response();
        let written_before = response.encode();
        for (index, value) in response.headers.values_mut().enumerate() {
            value.set_sensitive(index != 1);
        }
        let encoded = response.encode();
        assert_eq!((written_before[0], encoded[0]), (1, 2));
        let sensitive = |bytes: &[u8]| -> Vec<bool> {
            let decoded = StoredResponse::decode(bytes).unwrap();
            assert_eq!(decoded, response);
            let values = decoded.headers.values();
            values.map(HeaderValue::is_sensitive).collect()
        };
        assert_eq!(sensitive(&encoded), [true, false, true]);
        assert_eq!(sensitive(&written_before), [false; 3]);
        for length in 0..encoded.len() {
            assert!(StoredResponse::decode(&encoded[..length]).is_err());
        }
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

    fn encoded(headers: &[(Vec<u8>, &[u8])]) -> Vec<u8> {
        let headers = headers.iter().map(|(name, value)| (Raw(name), Raw(value)));
        let wire = Wire {
            status: 200,
            headers: headers.collect(),
            body: None,
        };
        postcard::to_extend(&wire, vec![VERSION]).unwrap()
    }

    #[test]
    fn more_headers_than_a_map_can_hold_are_damage_and_no_panic() {
        let names = |count: u32| (0..count).map(|n| (format!("x-{n}").into_bytes(), &b"v"[..]));
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
        let bytes = encoded(&vec![(b"x-multi".to_vec(), &b"v"[..]); 40_000]);
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
            let mut bytes = response().encode();
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
