//! The stored form of a response, byte for byte: what one release has written, each later one reads.
//!
//! `golden/` has a file for each form, in hexadecimal. A file is never changed, and never removed while its
//! version is read: a new form gets a new file.

#![allow(clippy::unwrap_used, reason = "a test")]

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use idempotent_runtime::{DecodeError, StoredResponse};

fn golden(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(str::bytes)
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn response() -> StoredResponse {
    let mut headers = HeaderMap::new();
    let mut secret = HeaderValue::from_static("s3cret");
    secret.set_sensitive(true);
    headers.append("location", HeaderValue::from_static("/payments/1"));
    headers.append("x-token", secret);
    headers.append("x-multi", HeaderValue::from_static("1"));
    headers.append("x-multi", HeaderValue::from_bytes(b"\xff").unwrap());
    StoredResponse::new(
        StatusCode::CREATED,
        headers,
        Bytes::from_static(b"{\"id\":1}"),
    )
}

fn with_trailers() -> StoredResponse {
    let trailers = [("grpc-status", HeaderValue::from_static("0"))];
    let trailers = trailers.map(|(name, value)| (http::HeaderName::from_static(name), value));
    StoredResponse::new(StatusCode::OK, HeaderMap::new(), "")
        .with_trailers(trailers.into_iter().collect())
}

#[test]
fn responses_of_version_1_are_written_and_read_as_ever() {
    let tombstone = StoredResponse::tombstone(StatusCode::OK, HeaderMap::new());
    for (name, hex, response) in [
        (
            "response",
            include_str!("golden/response-1.hex"),
            response(),
        ),
        (
            "trailers",
            include_str!("golden/trailers-1.hex"),
            with_trailers(),
        ),
        (
            "tombstone",
            include_str!("golden/tombstone-1.hex"),
            tombstone,
        ),
    ] {
        let bytes = golden(hex);
        assert_eq!(StoredResponse::decode(&bytes).unwrap(), response, "{name}");
        assert_eq!(response.encode(), bytes, "{name}");
    }
    let read = StoredResponse::decode(&golden(include_str!("golden/response-1.hex"))).unwrap();
    assert!(read.headers["x-token"].is_sensitive());
    assert!(!read.headers["location"].is_sensitive());
}

/// What a later release may write without giving the format another version.
#[test]
fn an_optional_field_of_a_newer_release_is_left_out() {
    let bytes = golden(include_str!("golden/newer-optional.hex"));
    let read = StoredResponse::decode(&bytes).unwrap();
    assert_eq!(read.trace_context(), Some("00-4bf92f-01"));
    assert_eq!((read.status, &read.headers), (201, &response().headers));
    assert_eq!(read.body, response().body);
}

/// Neither changes what a client gets.
#[test]
fn trace_context_and_audit_line_are_read() {
    let bytes = golden(include_str!("golden/audited-1.hex"));
    let read = StoredResponse::decode(&bytes).unwrap();
    assert_eq!(
        read.trace_context(),
        Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    );
    let audit = read.audit().unwrap();
    assert_eq!((audit.by(), audit.reason()), ("anna", "paid"));
    let since = audit.at().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(since, std::time::Duration::from_millis(1_000_000));
    assert_eq!(read.encode(), bytes);
}

#[test]
fn a_required_field_of_a_newer_release_is_refused_and_named() {
    let bytes = golden(include_str!("golden/newer-required.hex"));
    let error = StoredResponse::decode(&bytes).unwrap_err();
    assert!(matches!(error, DecodeError::RequiredField(8)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "stored response has the required field 8, which this release does not know"
    );
}
