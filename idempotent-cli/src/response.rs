//! The response of `--replay`: a file as `curl -i` prints a response.
//!
//! ```text
//! HTTP/1.1 201 Created
//! content-type: application/json
//!
//! {"receipt":4711}
//! ```
//!
//! A status line (of any version, with or without a phrase), headers, an empty line, and the body, byte for byte to the
//! end of the file. Lines may end with CR LF or with LF. A `Content-Length` must be right: editors add a line end.
//! What a service never stores (`Date`, `Set-Cookie`, ...) is left out, and named.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use idempotent_runtime::{HeaderFilter, StoredResponse};

/// A response that was read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) response: StoredResponse,
    /// The headers that are not stored.
    pub(crate) left_out: Vec<HeaderName>,
}

/// Reads all of a message.
pub(crate) fn parse(message: &[u8]) -> Result<Read, String> {
    let (line, mut rest) = line(message).ok_or("it is empty")?;
    let status = status(line).ok_or(
        "its first line is not a status line such as `HTTP/1.1 201 Created`; if it is a body alone, say --status",
    )?;
    let mut headers = HeaderMap::new();
    let mut number = 1;
    let body = loop {
        let Some((line, after)) = self::line(rest) else {
            return Err("there is no empty line between headers and body".to_owned());
        };
        number += 1;
        if line.is_empty() {
            break after;
        }
        // Not repeated: it may be a part of the body.
        let (name, value) = header_of(line).ok_or_else(|| {
            format!("line {number} is not a header, nor the empty line after them")
        })?;
        headers.append(name, value);
        rest = after;
    };
    must_be_whole(&headers, body)?;
    let (headers, left_out) = stored(&headers);
    Ok(Read {
        response: StoredResponse::new(status, headers, body.to_vec()),
        left_out,
    })
}

/// Up to an LF or the end, without its line end.
fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.is_empty() {
        return None;
    }
    let end = text.iter().position(|byte| *byte == b'\n');
    let (line, rest) = match end {
        Some(end) => (text.get(..end)?, text.get(end + 1..)?),
        None => (text, &[][..]),
    };
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest))
}

fn status(line: &[u8]) -> Option<StatusCode> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    words.next()?.strip_prefix("HTTP/")?;
    let status: StatusCode = words.next()?.parse().ok()?;
    (200..600).contains(&status.as_u16()).then_some(status)
}

fn header_of(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(line.get(..colon)?).ok()?;
    let value = line.get(colon + 1..)?.trim_ascii();
    Some((name, HeaderValue::from_bytes(value).ok()?))
}

fn must_be_whole(headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else {
        return Ok(());
    };
    let length: Option<usize> = length.to_str().ok().and_then(|it| it.parse().ok());
    match length {
        Some(length) if length == body.len() => Ok(()),
        _ => Err(format!(
            "its Content-Length is not the length of its body, {} bytes: correct it or leave it out",
            body.len()
        )),
    }
}

fn stored(headers: &HeaderMap) -> (HeaderMap, Vec<HeaderName>) {
    let filter = HeaderFilter::default();
    let mut kept = HeaderMap::new();
    for (name, value) in filter.stored(headers) {
        kept.append(name.clone(), value.clone());
    }
    let is_missing =
        |name: &&HeaderName| !kept.contains_key(*name) && **name != header::CONTENT_LENGTH;
    let left_out = headers.keys().filter(is_missing).cloned().collect();
    (kept, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_curl_prints_is_read() {
        let message = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nset-cookie: a=1\r\ncontent-length: 3\r\n\r\n{\r\n";
        let read = parse(message).unwrap();
        assert_eq!(read.response.status, 201);
        assert_eq!(read.response.headers.len(), 1);
        assert_eq!(read.response.headers["content-type"], "application/json");
        assert_eq!(read.response.body.as_deref(), Some(&b"{\r\n"[..]));
        assert_eq!(read.left_out, [header::SET_COOKIE]);
    }

    #[test]
    fn a_body_is_every_byte_to_the_end() {
        let read = parse(b"HTTP/2 204\n\n").unwrap();
        assert_eq!(read.response.body.as_deref(), Some(&b""[..]));
        let read = parse(b"HTTP/2 200\n\n\n\xff\0").unwrap();
        assert_eq!(read.response.body.as_deref(), Some(&b"\n\xff\0"[..]));
    }

    #[test]
    fn mistakes_are_told_without_the_contents() {
        for wrong in [
            &b""[..],
            b"{\"canary\": 1}",
            b"HTTP/1.1 100 Continue\n\n",
            b"HTTP/1.1 201\ncontent-type: x",
            b"HTTP/1.1 201\ncanary\n\n",
            b"HTTP/1.1 201\ncontent-length: 6\n\ncanary\n",
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
