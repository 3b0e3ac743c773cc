//! What a handler knows of a request: who sent it, where the page is mounted, and whether JSON is wanted.

use std::sync::Arc;

use axum::extract::{FromRequestParts, OriginalUri};
use axum::response::Response;
use http::HeaderMap;
use http::header::ACCEPT;
use http::request::Parts;

use serde::Deserialize;

use super::guard::Operator;
use super::origin::is_json;
use super::permission::forbidden;

/// One request of an operator.
pub(super) struct Visit {
    /// The operator's name.
    pub(super) by: Arc<str>,
    /// Where the page is mounted, relative to this request's address: it ends with a slash. So links work under any
    /// prefix, also under one that a proxy has taken away.
    pub(super) root: String,
    pub(super) wants_json: bool,
}

/// The record that a route names, beside parameters of the prefix under which the page is mounted.
#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) record_key: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let Some(Operator(by)) = parts.extensions.get::<Operator>().cloned() else {
            // No route is without the guard.
            return Err(forbidden());
        };
        let original = parts.extensions.get::<OriginalUri>();
        let original = original.map_or(parts.uri.path(), |OriginalUri(uri)| uri.path());
        Ok(Self {
            by,
            root: root(original, parts.uri.path()),
            wants_json: is_json(&parts.headers) || accepts_json(&parts.headers),
        })
    }
}

/// From a path, and the part of it that is below where the page is mounted.
fn root(original: &str, inner: &str) -> String {
    let folders = inner.matches('/').count().saturating_sub(1);
    if folders > 0 {
        return "../".repeat(folders);
    }
    match original.rsplit_once('/') {
        // Mounted at this very path, without a slash at its end.
        Some((_, last)) if inner == "/" && !last.is_empty() => format!("./{last}/"),
        _ => "./".to_owned(),
    }
}

/// Whether JSON is named, and HTML is not: a browser names HTML.
fn accepts_json(headers: &HeaderMap) -> bool {
    let names = |essence| {
        let values = headers.get_all(ACCEPT).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.contains(essence))
    };
    names("application/json") && !names("text/html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_relative_to_any_page() {
        for (original, inner, expected) in [
            ("/", "/", "./"),
            ("/admin", "/", "./admin/"),
            ("/a/admin/", "/", "./"),
            ("/a/admin/records", "/records", "./"),
            ("/records", "/records", "./"),
            ("/a/admin/records/ab", "/records/ab", "../"),
            (
                "/a/admin/records/ab/resolve",
                "/records/ab/resolve",
                "../../",
            ),
        ] {
            assert_eq!(root(original, inner), expected, "{original}");
        }
    }
}
