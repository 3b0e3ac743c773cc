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
        more: None,
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
        with_trailers()
            .with_trace_context("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
            .with_audit(AuditLine::new("anna\n", "paid")),
        response().with_audit(AuditLine::new(&"ä".repeat(400), "")),
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
        assert_eq!(decoded.audit(), response.audit());
        assert_eq!(decoded.trace_context(), response.trace_context());
        assert_eq!(CompactResponse::from(&response).response(), response);
    }
}

#[test]
fn audit_line_is_one_line_of_bounded_length() {
    let line = AuditLine::new("anna\r\nADMIN", &"ä".repeat(400));
    assert_eq!((line.by(), line.reason().len()), ("anna  ADMIN", 512));
}

#[test]
fn sensitive_values_stay_so() {
    let mut response = with_trailers();
    for (index, value) in response.headers.values_mut().enumerate() {
        value.set_sensitive(index != 1);
    }
    let mut trailers = response.take_trailers().unwrap();
    for value in trailers.values_mut() {
        value.set_sensitive(true);
    }
    let response = response.with_trailers(trailers);
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
