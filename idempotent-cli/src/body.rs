//! Whether a body is what its status and its headers say. It is replayed as it is: otherwise no client could read it.

use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

pub(crate) fn check(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    if matches!(status.as_u16(), 204 | 205 | 304) {
        return must_be_empty(status, body);
    }
    must_be_encoded(headers, body)?;
    must_be_whole(headers, body)
}

fn must_be_empty(status: StatusCode, body: &[u8]) -> Result<(), String> {
    match body.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "a response with status {} has no body: leave the body out, or correct the status",
            status.as_u16()
        )),
    }
}

/// The last coding is the outermost one.
fn must_be_encoded(headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    let last = headers.get_all(header::CONTENT_ENCODING).iter().next_back();
    let codings = last
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default()
        .to_ascii_lowercase();
    let coding = codings.rsplit(',').next().unwrap_or_default().trim();
    match is_decoded(coding, body) {
        false => Ok(()),
        true => Err(format!(
            "its Content-Encoding is {coding}, but its body is not, as `curl --compressed` prints it: \
             remove that header, or save the response without `--compressed`"
        )),
    }
}

/// Only what is certain.
fn is_decoded(coding: &str, body: &[u8]) -> bool {
    match coding {
        _ if body.is_empty() => false,
        "gzip" | "x-gzip" => !body.starts_with(b"\x1f\x8b"),
        "compress" | "x-compress" => !body.starts_with(b"\x1f\x9d"),
        // The second is a frame that is skipped.
        "zstd" => !body.starts_with(b"\x28\xb5\x2f\xfd") && body.get(1..4) != Some(b"\x2a\x4d\x18"),
        // They begin with anything, but they do not read as JSON from the first to the last byte.
        "br" | "deflate" => {
            let json = serde_json::from_slice(body);
            matches!(json, Ok(Value::Object(_) | Value::Array(_)))
        }
        _ => false,
    }
}

fn must_be_whole(headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    match has_its_length(headers, body) {
        Some(false) => Err(format!(
            "its Content-Length is not the length of its body, {} bytes: correct it or leave it out",
            body.len()
        )),
        _ => Ok(()),
    }
}

/// Whether the body is as long as its Content-Length says, if there is one.
pub(crate) fn has_its_length(headers: &HeaderMap, body: &[u8]) -> Option<bool> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    let length: Option<usize> = length.to_str().ok().and_then(|it| it.parse().ok());
    Some(length == Some(body.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(coding: &str, body: &[u8]) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, coding.parse().unwrap());
        check(StatusCode::OK, &headers, body)
    }

    #[test]
    fn a_decoded_body_is_not_said_to_be_encoded() {
        let json = b"{\"receipt\":4711}";
        for coding in [
            "gzip", "x-gzip", "GZIP", "br, gzip", "compress", "zstd", "br", "deflate",
        ] {
            let error = encoded(coding, json).unwrap_err();
            assert!(error.contains("--compressed"), "{coding}: {error}");
        }
    }

    #[test]
    fn a_body_that_may_be_encoded_is_taken() {
        for (coding, body) in [
            ("gzip", &b"\x1f\x8b\x08\0"[..]),
            ("gzip", b""),
            ("gzip, br", b"\x0b\x02\x80{}\x03"),
            ("compress", b"\x1f\x9d\x90"),
            ("zstd", b"\x28\xb5\x2f\xfd\0"),
            ("zstd", b"\x5a\x2a\x4d\x18\0"),
            ("br", b"receipt"),
            ("identity", b"{}"),
            ("of-the-future", b"{}"),
        ] {
            assert_eq!(encoded(coding, body), Ok(()), "{coding} {body:?}");
        }
    }

    #[test]
    fn a_status_without_a_body_has_none() {
        for status in [204, 205, 304] {
            let status = StatusCode::from_u16(status).unwrap();
            let mut headers = HeaderMap::new();
            assert!(check(status, &headers, b"{}").is_err());
            // The length that another status would have.
            headers.insert(header::CONTENT_LENGTH, 2.into());
            assert_eq!(check(status, &headers, b""), Ok(()));
        }
    }
}
