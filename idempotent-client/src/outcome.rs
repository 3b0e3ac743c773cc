//! What a try brought.

use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use http::{Response, StatusCode};
use serde_json::Value;

use crate::code::Code;
use crate::retry_after::{retry_after, single};

static REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
static STATUS: HeaderName = HeaderName::from_static("idempotency-status");
static DEGRADED: HeaderName = HeaderName::from_static("idempotency-degraded");
static SHOULD_RETRY: HeaderName = HeaderName::from_static("stripe-should-retry");

/// The outcome of a try: no answer, or a complete one.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Outcome<'a> {
    /// No answer, or an incomplete one: refused, timed out, reset at any point. It says nothing about the operation.
    Lost,
    /// The HTTP client followed a redirect. The answer, if there is one, belongs to another request.
    Redirected,
    /// The body cannot be sent again. This is found before anything is sent.
    Unrepeatable,
    /// An answer whose body has arrived to its end.
    #[non_exhaustive]
    Answer {
        /// The status.
        status: StatusCode,
        /// The headers.
        headers: &'a HeaderMap,
        /// The whole body.
        body: &'a [u8],
    },
}

impl<'a> Outcome<'a> {
    /// The outcome of a try with a complete answer.
    #[must_use]
    pub fn answer<B: AsRef<[u8]>>(response: &'a Response<B>) -> Self {
        Self::Answer {
            status: response.status(),
            headers: response.headers(),
            body: response.body().as_ref(),
        }
    }

    pub(crate) fn retry_after(&self, now: SystemTime) -> Duration {
        match self {
            Self::Answer { headers, .. } => retry_after(headers, now),
            _ => Duration::ZERO,
        }
    }

    /// How long the server keeps the key, if the answer says so.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        match self {
            Self::Answer { headers, .. } => lifetime(headers),
            _ => None,
        }
    }
}

/// The parameter `lifetime` of `Idempotency-Status`, in seconds. Zero says nothing.
fn lifetime(headers: &HeaderMap) -> Option<Duration> {
    let parameters = single(headers, &STATUS)?.split(';').skip(1);
    let mut values = parameters.filter_map(|it| it.trim().strip_prefix("lifetime="));
    let digits = values.next()?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let secs = digits.parse().ok().filter(|secs| is_number && *secs > 0)?;
    Some(Duration::from_secs(secs))
}

/// Whether this is what the record of the key keeps, replayed or for the first time: every other try gets the same.
pub(crate) fn is_of_record(headers: &HeaderMap) -> bool {
    is_replay(headers) || status_word(headers) == Some("stored")
}

/// Whether the operation has run without a record of the key: another try would run too.
pub(crate) fn is_unprotected(headers: &HeaderMap) -> bool {
    says_true(headers, &DEGRADED) || status_word(headers) == Some("unprotected")
}

/// `Idempotency-Status` without its parameters.
fn status_word(headers: &HeaderMap) -> Option<&str> {
    let word = single(headers, &STATUS)?.split(';').next()?;
    Some(word.trim())
}

/// Only `true` marks a replay.
pub(crate) fn is_replay(headers: &HeaderMap) -> bool {
    says_true(headers, &REPLAYED)
}

/// Once, or as often as servers and proxies have said it.
fn says_true(headers: &HeaderMap, name: &HeaderName) -> bool {
    let lines = headers.get_all(name).iter();
    let mut values = lines.flat_map(|line| line.to_str().unwrap_or_default().split(','));
    let first = values.next().map(str::trim);
    first == Some("true") && values.all(|value| value.trim() == "true")
}

/// The code of a problem: only `application/problem+json` has one.
pub(crate) fn problem_code(headers: &HeaderMap, body: &[u8]) -> Option<Code> {
    let content_type = single(headers, &CONTENT_TYPE)?;
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/problem+json") {
        return None;
    }
    let problem = json(body)?;
    Code::from_code(problem.get("code")?.as_str()?)
}

/// Some servers write a byte order mark, which is not JSON (RFC 8259, section 8.1).
fn json(body: &[u8]) -> Option<Value> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    serde_json::from_slice(body).ok()
}

/// Stripe's advice, if it gives one.
pub(crate) fn stripe_advice(headers: &HeaderMap) -> Option<bool> {
    match single(headers, &SHOULD_RETRY)? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Stripe's error for other parameters under one key.
pub(crate) fn is_idempotency_error(status: StatusCode, body: &[u8]) -> bool {
    if status != StatusCode::BAD_REQUEST {
        return false;
    }
    let body = json(body);
    let kind = body
        .as_ref()
        .and_then(|body| body.get("error")?.get("type"));
    kind.and_then(Value::as_str) == Some("idempotency_error")
}
