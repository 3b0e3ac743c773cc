//! Whether a request that changes something comes from this page: the protection against cross-site request forgery.
//!
//! # The problem
//!
//! A browser sends its credentials (a cookie, a password of basic authentication) with a form that any other site
//! submits. What an operator is allowed to do, that site could then do too.
//!
//! # What is guaranteed
//!
//! A browser says where a request comes from, in headers that no page can set:
//!
//! 1. `Sec-Fetch-Site`, over HTTPS and to localhost, since 2023 in every browser: it must be `same-origin`. Not
//!    `same-site`: another subdomain may belong to another team.
//! 2. Without it, `Origin`: its authority must be the request's own (`Host`, or `:authority`).
//! 3. With neither, only JSON is accepted: a browser sends `application/json` across sites only after a CORS
//!    preflight, which this page does not answer. So `curl` and other programs need no headers, and a form does.
//!
//! There is no token and no session, so any instance behind a load balancer accepts the form of any other.

use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the page's own forms, or a program that is not a browser, have sent this request.
pub(super) fn is_own(parts: &Parts) -> bool {
    if parts.headers.contains_key(SEC_FETCH_SITE) {
        return all(&parts.headers, &SEC_FETCH_SITE, |site| {
            site == "same-origin"
        });
    }
    if parts.headers.contains_key(ORIGIN) {
        let Some(host) = host(parts) else {
            return false;
        };
        return all(&parts.headers, &ORIGIN, |origin| {
            authority(origin).is_some_and(|it| it.eq_ignore_ascii_case(host))
        });
    }
    is_json(&parts.headers)
}

/// Whether the content is declared as JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    is_of_type(headers, "application/json")
}

/// Whether the content is declared as what a form sends.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    is_of_type(headers, "application/x-www-form-urlencoded")
}

fn is_of_type(headers: &HeaderMap, essence: &str) -> bool {
    let is_single = headers.get_all(CONTENT_TYPE).iter().count() == 1;
    is_single
        && all(headers, &CONTENT_TYPE, |value| {
            let found = value.split(';').next().unwrap_or_default();
            found.trim().eq_ignore_ascii_case(essence)
        })
}

/// Whether each value of the header is text that passes.
fn all(headers: &HeaderMap, name: &HeaderName, passes: impl Fn(&str) -> bool) -> bool {
    let mut values = headers.get_all(name).iter();
    values.all(|value| value.to_str().is_ok_and(&passes))
}

fn authority(origin: &str) -> Option<&str> {
    let authority = origin.strip_prefix("https://");
    authority.or_else(|| origin.strip_prefix("http://"))
}

fn host(parts: &Parts) -> Option<&str> {
    match parts.headers.get(HOST) {
        Some(host) => host.to_str().ok(),
        None => parts.uri.authority().map(Authority::as_str),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn is_own_with(headers: &[(&str, &str)]) -> bool {
        let mut request = Request::post("/").header(HOST, "pay.example.com");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        is_own(&request.body(()).unwrap().into_parts().0)
    }

    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    #[test]
    fn fetch_metadata_decides_where_it_is_sent() {
        assert!(is_own_with(&[("sec-fetch-site", "same-origin"), FORM]));
        for site in ["cross-site", "same-site", "none", "", "SAME-ORIGIN"] {
            for content in [FORM, JSON] {
                let origin = ("origin", "https://pay.example.com");
                assert!(!is_own_with(&[("sec-fetch-site", site), origin, content]));
            }
        }
        let twice = [
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "cross-site"),
        ];
        assert!(!is_own_with(&twice));
    }

    #[test]
    fn otherwise_the_origin_is_the_host() {
        for own in [
            "https://pay.example.com",
            "http://pay.example.com",
            "http://PAY.example.com",
        ] {
            assert!(is_own_with(&[("origin", own), FORM]), "{own}");
        }
        for foreign in [
            "https://example.com",
            "https://pay.example.com.example.org",
            "https://pay.example.com:8443",
            "null",
            "",
            "pay.example.com",
        ] {
            assert!(!is_own_with(&[("origin", foreign), FORM]), "{foreign}");
            assert!(!is_own_with(&[("origin", foreign), JSON]), "{foreign}");
        }
    }

    #[test]
    fn without_both_only_json_is_accepted() {
        assert!(is_own_with(&[JSON]));
        assert!(!is_own_with(&[FORM]));
        assert!(!is_own_with(&[]));
        assert!(!is_own_with(&[("content-type", "text/plain")]));
        assert!(!is_own_with(&[JSON, ("content-type", "text/plain")]));
    }
}
