//! The answers of something in front of the server.

use std::time::{Duration, SystemTime};

use super::message::Message;

/// How far away the date is that `Retry-After` names.
pub(crate) const BUSY_UNTIL_SECS: u64 = 2;

/// A browser shows a page of another origin nothing of an answer without these.
const CORS: &str =
    "access-control-allow-origin: *\r\naccess-control-expose-headers: retry-after, date\r\n";

/// In the words of another instance, which runs the request.
pub(super) fn conflict() -> Message {
    let body = r#"{"title":"The first request is still running","status":409,"code":"in-flight"}"#;
    let headers = format!("{CORS}content-type: application/problem+json\r\nretry-after: 1\r\n");
    Message::reply("409 Conflict", &headers, body)
}

pub(super) fn busy() -> Message {
    let headers = format!("{CORS}content-type: text/plain\r\nretry-after: 1\r\n");
    Message::reply("503 Service Unavailable", &headers, "busy")
}

pub(super) fn busy_until() -> Message {
    let now = SystemTime::now();
    let until = now + Duration::from_secs(BUSY_UNTIL_SECS);
    let (now, until) = (httpdate::fmt_http_date(now), httpdate::fmt_http_date(until));
    let headers =
        format!("{CORS}content-type: text/plain\r\ndate: {now}\r\nretry-after: {until}\r\n");
    Message::reply("503 Service Unavailable", &headers, "busy")
}

pub(super) fn bad_gateway() -> Message {
    Message::reply(
        "502 Bad Gateway",
        "content-type: text/html\r\n",
        "<h1>Bad gateway</h1>",
    )
}

/// What a reply asks the client to wait, from now on.
pub(super) fn retry_after(reply: &Message) -> Option<Duration> {
    let value = reply.header("retry-after")?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    until.duration_since(SystemTime::now()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_how_long_to_wait() {
        assert_eq!(retry_after(&conflict()), Some(Duration::from_secs(1)));
        assert_eq!(retry_after(&busy()), Some(Duration::from_secs(1)));
        // A date has no fraction of a second.
        assert!(retry_after(&busy_until()) > Some(Duration::from_millis(500)));
        assert_eq!(retry_after(&bad_gateway()), None);
    }
}
