//! What an operator says of an abandoned key, read from files and from the command line.

use std::io::Read as _;
use std::path::Path;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use idempotent_runtime::{Recovery, StoredResponse};

use crate::arguments::Verdict;
use crate::body;
use crate::failure::Failure;
use crate::response;

pub(crate) fn recovery(verdict: &Verdict) -> Result<Recovery, Failure> {
    if verdict.retry {
        return Ok(Recovery::Retry);
    }
    if let Some(file) = &verdict.value {
        return value(&contents(file)?).map(Recovery::Replay);
    }
    let file = verdict.replay.as_deref().map(contents).transpose()?;
    let response = match (verdict.status, file) {
        (Some(status), body) => raw(status, verdict.content_type.clone(), body)?,
        (None, Some(message)) => parsed(&message)?,
        (None, None) => return Err(Failure::new("use --replay, --status, --value or --retry")),
    };
    Ok(Recovery::Replay(response))
}

/// The result of a function. Of a mistake only where it is: the value may be secret.
fn value(text: &[u8]) -> Result<StoredResponse, Failure> {
    StoredResponse::of_json(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Failure::new(match error.is_data() {
            true => "the file of --value has a number that JSON of 64 bits cannot hold, or a member twice".to_owned(),
            false => format!("the file of --value is not JSON, at line {line}, column {column}"),
        })
    })
}

fn raw(
    status: StatusCode,
    content_type: Option<HeaderValue>,
    body: Option<Vec<u8>>,
) -> Result<StoredResponse, Failure> {
    let mut headers = HeaderMap::new();
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    let body = body.unwrap_or_default();
    body::check(status, &headers, &body)
        .map_err(|why| Failure::new(format!("the file of --replay does not fit: {why}")))?;
    Ok(StoredResponse::new(status, headers, body))
}

#[expect(clippy::print_stderr, reason = "a command line tool talks to its user")]
fn parsed(message: &[u8]) -> Result<StoredResponse, Failure> {
    let read = response::parse(message);
    let read =
        read.map_err(|why| Failure::new(format!("the file of --replay is not a response: {why}")))?;
    for name in read.left_out {
        eprintln!("note: the header `{name}` is left out: it is never replayed");
    }
    Ok(read.response)
}

fn contents(file: &Path) -> Result<Vec<u8>, Failure> {
    let contents = match file == Path::new("-") {
        true => {
            let mut contents = Vec::new();
            std::io::stdin()
                .read_to_end(&mut contents)
                .map(|_| contents)
        }
        false => std::fs::read(file),
    };
    contents.map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_without_a_body_takes_none() {
        let status = StatusCode::NO_CONTENT;
        assert!(raw(status, None, Some(b"receipt".to_vec())).is_err());
        assert!(raw(status, None, Some(Vec::new())).is_ok());
        assert!(raw(StatusCode::CREATED, None, Some(b"receipt".to_vec())).is_ok());
    }

    #[test]
    fn a_value_is_json_that_is_replayed_as_it_is_written() {
        let stored = value(b"{\"receipt\": 18446744073709551615}\n").unwrap();
        assert_eq!(stored.status, 0);
        for wrong in [
            &b"canary"[..],
            b"",
            b"12345678901234567890123",
            br#"{"canary":1,"canary":2}"#,
        ] {
            let Err(Failure { message, .. }) = value(wrong) else {
                panic!("it is taken");
            };
            assert!(!message.contains("canary"), "{message}");
        }
    }
}
