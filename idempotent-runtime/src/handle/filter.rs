//! Which response headers are stored.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// `true` on every response that comes from a record and not from the handler.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// `true` on the response of a handler that ran without protection, because the store was unavailable and
/// [`OnStoreFailure::FailOpen`](crate::OnStoreFailure::FailOpen) is set.
pub const IDEMPOTENCY_DEGRADED: HeaderName = HeaderName::from_static("idempotency-degraded");

/// Where a response comes from, and how long its key lives: sent if
/// [`IdempotencyBuilder::status_header`](crate::IdempotencyBuilder::status_header) is set.
pub const IDEMPOTENCY_STATUS: HeaderName = HeaderName::from_static("idempotency-status");

/// The headers that are not stored by default.
///
/// Hop-by-hop fields belong to the connection (RFC 9110, section 7.6.1). The others are valid only at one moment or for
/// one caller: a replay a day later must not set the first caller's session cookie, repeat a stale `Date`, or return an
/// old trace.
static NEVER_STORED: [HeaderName; 31] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::DATE,
    header::CONTENT_LENGTH,
    header::SET_COOKIE,
    header::AUTHORIZATION,
    HeaderName::from_static("authentication-info"),
    HeaderName::from_static("proxy-authentication-info"),
    header::RETRY_AFTER,
    header::AGE,
    HeaderName::from_static("alt-svc"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("server-timing"),
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    HeaderName::from_static("access-control-allow-private-network"),
    IDEMPOTENT_REPLAYED,
    IDEMPOTENCY_DEGRADED,
    IDEMPOTENCY_STATUS,
];

/// Which headers of a response are stored and replayed.
///
/// By default all headers are stored, in order and with repeats, except hop-by-hop headers, those that `Connection`
/// names, and `Date`, `Content-Length` (computed anew), `Set-Cookie`, `Authorization`, `Authentication-Info`,
/// `Retry-After`, `Age`, `Alt-Svc`, `Traceparent`, `Tracestate`, `Server-Timing` and the CORS headers.
///
/// ```
/// use http::HeaderName;
/// use idempotent_runtime::HeaderFilter;
///
/// let filter = HeaderFilter::default()
///     .exclude(HeaderName::from_static("x-request-id"))
///     .include(&HeaderName::from_static("retry-after"));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct HeaderFilter {
    /// A set: the values mean nothing. It hashes a known name in no time.
    never_stored: HeaderMap<()>,
}

impl HeaderFilter {
    /// Keeps one more header out of the records.
    pub fn exclude(mut self, name: HeaderName) -> Self {
        self.never_stored.insert(name, ());
        self
    }

    /// Stores a header that is left out by default.
    pub fn include(mut self, name: &HeaderName) -> Self {
        self.never_stored.remove(name);
        self
    }

    /// The headers of a response that are stored, in order: for a tool that stores a response itself.
    pub fn stored<'a>(
        &'a self,
        headers: &'a HeaderMap,
    ) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
        let is_stored = self.is_stored(headers);
        headers.iter().filter(move |(name, _)| is_stored(name))
    }

    /// Which of these headers are stored, by their names.
    pub(crate) fn is_stored<'a>(&'a self, headers: &'a HeaderMap) -> impl Fn(&HeaderName) -> bool {
        // None, as a rule.
        let of_connection: Vec<&str> = connection_options(headers).collect();
        move |name| {
            !self.never_stored.contains_key(name)
                && !of_connection
                    .iter()
                    .any(|option| name.as_str().eq_ignore_ascii_case(option))
        }
    }
}

/// The headers that `Connection` names belong to the connection too.
fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::CONNECTION).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

impl Default for HeaderFilter {
    fn default() -> Self {
        Self {
            never_stored: NEVER_STORED.iter().map(|name| (name.clone(), ())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_moment_or_connection_is_not_stored() {
        let mut headers = HeaderMap::new();
        for name in &NEVER_STORED {
            headers.append(name, HeaderValue::from_static("x"));
        }
        headers.insert(header::CONNECTION, HeaderValue::from_static("close, X-Hop"));
        headers.insert("x-hop", HeaderValue::from_static("1"));
        headers.insert("x-kept", HeaderValue::from_static("1"));
        let filter = HeaderFilter::default();
        let stored = filter.stored(&headers).map(|(name, _)| name.as_str());
        assert_eq!(stored.collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn the_application_decides() {
        let mut headers = HeaderMap::new();
        headers.insert(header::SET_COOKIE, HeaderValue::from_static("a=1"));
        headers.insert("x-request-id", HeaderValue::from_static("7"));
        let filter = HeaderFilter::default()
            .include(&header::SET_COOKIE)
            .exclude(HeaderName::from_static("x-request-id"));
        let stored = filter.stored(&headers).map(|(name, _)| name);
        assert_eq!(stored.collect::<Vec<_>>(), [header::SET_COOKIE]);
    }
}
