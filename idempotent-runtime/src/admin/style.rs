//! The style of the pages, and what a browser may load: nothing else.

use std::sync::LazyLock;

use http::HeaderValue;
use sha2::{Digest, Sha256};

use super::words::base64;

/// It is in each page, so that there is no route for it.
pub(super) const STYLE: &str = include_str!("style.css");

/// Nothing is loaded, no script runs, and forms go to this origin alone. The style is allowed by its digest.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = base64(&Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// The `Content-Security-Policy`.
pub(super) fn policy() -> HeaderValue {
    POLICY.clone()
}
