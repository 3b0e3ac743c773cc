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
//! Interim responses and a proxy's answer to `CONNECT` may stand before it, and are left out.
//! What a service never stores (`Date`, `Set-Cookie`, ...) is left out, and named.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use idempotent_runtime::{HeaderFilter, StoredResponse};

use crate::body;

/// A response that was read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) response: StoredResponse,
    /// The headers that are not stored.
    pub(crate) left_out: Vec<HeaderName>,
}

struct Head {
    status: StatusCode,
    headers: HeaderMap,
}

/// Reads all of a message.
pub(crate) fn parse(message: &[u8]) -> Result<Read, String> {
    let (head, body) = last_head(message)?;
    body::check(head.status, &head.headers, body)?;
    let (headers, left_out) = stored(&head.headers);
    Ok(Read {
        response: StoredResponse::new(head.status, headers, body.to_vec()),
        left_out,
    })
}

/// `curl -i` prints the heads of interim responses and of a proxy's answer to `CONNECT` before that of the response.
fn last_head(message: &[u8]) -> Result<(Head, &[u8]), String> {
    let (mut rest, mut number) = (message, 0);
    loop {
        let (head, after) = head(rest, &mut number)?;
        let another_follows = line(after).is_some_and(|(line, _)| status(line).is_some());
        if another_follows && (head.status.is_informational() || is_of_tunnel(&head)) {
            rest = after;
        } else if head.status.is_informational() {
            return Err("it is an interim response, and none follows".to_owned());
        } else if another_follows && body::has_its_length(&head.headers, after) != Some(true) {
            return Err(
                "after its headers another response follows: leave only the one to be replayed"
                    .to_owned(),
            );
        } else {
            return Ok((head, after));
        }
    }
}

/// A tunnel begins behind the head (RFC 9110, section 9.3.6), which therefore says nothing of a body.
fn is_of_tunnel(head: &Head) -> bool {
    let of_body = [
        header::CONTENT_TYPE,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
    ];
    head.status.is_success() && !of_body.iter().any(|it| head.headers.contains_key(it))
}

/// The head, and what is behind its empty line. `number` counts lines.
fn head<'a>(message: &'a [u8], number: &mut usize) -> Result<(Head, &'a [u8]), String> {
    let (line, mut rest) = line(message).ok_or("it is empty")?;
    let status = status(line).ok_or(
        "its first line is not a status line such as `HTTP/1.1 201 Created`; if it is a body alone, use --status",
    )?;
    let mut headers = HeaderMap::new();
    *number += 1;
    loop {
        let Some((line, after)) = self::line(rest) else {
            return Err("there is no empty line between headers and body".to_owned());
        };
        *number += 1;
        if line.is_empty() {
            return Ok((Head { status, headers }, after));
        }
        // Not repeated: it may be a part of the body.
        let (name, value) = header_of(line).ok_or_else(|| {
            format!("line {number} is not a header, nor the empty line after them")
        })?;
        headers.append(name, value);
        rest = after;
    }
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
    (100..600).contains(&status.as_u16()).then_some(status)
}

fn header_of(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(line.get(..colon)?).ok()?;
    let value = line.get(colon + 1..)?.trim_ascii();
    Some((name, HeaderValue::from_bytes(value).ok()?))
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
    fn heads_before_that_of_the_response_are_left_out() {
        let response = b"HTTP/2 201 \r\ncontent-type: application/json\r\n\r\n{\"receipt\":4711}";
        for before in [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 Connection established\r\n\r\n",
            "HTTP/1.1 200 OK\r\nVia: 1.1 proxy\r\n\r\nHTTP/2 103 \r\nlink: </a>\r\n\r\n",
        ] {
            let read = parse(&[before.as_bytes(), &response[..]].concat()).unwrap();
            assert_eq!(read.response.status, 201, "{before}");
            assert_eq!(read.response.headers.len(), 1, "{before}");
            assert_eq!(
                read.response.body.as_deref(),
                Some(&b"{\"receipt\":4711}"[..])
            );
        }
    }

    #[test]
    fn two_responses_are_not_one() {
        let second = "HTTP/1.1 200 OK\n\nx";
        for first in ["302 Found", "401 Unauthorized", "200 OK\ncontent-type: a/b"] {
            let error = parse(format!("HTTP/1.1 {first}\n\n{second}").as_bytes()).unwrap_err();
            assert!(error.contains("another response"), "{first}: {error}");
        }
        let length = second.len();
        let quoted = format!("HTTP/1.1 200\ncontent-length: {length}\n\n{second}");
        let read = parse(quoted.as_bytes()).unwrap();
        assert_eq!(read.response.body.as_deref(), Some(second.as_bytes()));
    }

    #[test]
    fn a_body_is_checked_against_its_head() {
        assert!(parse(b"HTTP/1.1 204 No Content\n\nbody").is_err());
        assert!(parse(b"HTTP/2 200\ncontent-encoding: gzip\n\n{}").is_err());
    }

    #[test]
    fn mistakes_are_told_without_the_contents() {
        for wrong in [
            &b""[..],
            b"{\"canary\": 1}",
            b"HTTP/1.1 100 Continue\n\n",
            b"HTTP/1.1 100 Continue\n\ncanary",
            b"HTTP/1.1 302\n\nHTTP/1.1 200 canary\n\n",
            b"HTTP/1.1 204\n\ncanary",
            b"HTTP/1.1 200\ncontent-encoding: gzip\n\ncanary",
            b"HTTP/1.1 201\ncontent-type: x",
            b"HTTP/1.1 201\ncanary\n\n",
            b"HTTP/1.1 201\ncontent-length: 6\n\ncanary\n",
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
