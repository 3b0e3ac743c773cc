//! Browsers: CORS for pages of another origin, keys made by a page, and keys made by the browser.
//!
//! A page of the service's own origin needs nothing of this guide. A page of another origin (`https://shop.example.com`
//! calls `https://api.example.com`) may send an `Idempotency-Key`, and may read the headers of an answer, only if the
//! service allows both by CORS. A developer notices at once if the request header is not allowed. Missing response
//! headers go unnoticed: the page does not see `Retry-After` and retries too early, and it does not see
//! `Idempotent-Replayed`, so a stored failure looks like a network failure.
//!
//! # CORS
//!
//! [`request_headers`] and [`response_headers`] are the two lists, for tower-http's `CorsLayer` (feature `cors`) or any other:
//!
//! ```
//! use axum::{Router, routing::post};
//! use http::{HeaderValue, Method, header::AUTHORIZATION};
//! use idempotent_runtime::{Idempotency, browsers, idempotent, store::memory::MemoryStore};
//! use tower_http::cors::CorsLayer;
//!
//! #[idempotent(ttl_hours = 24, key_age = "ttl")]
//! async fn create_payment() -> &'static str {
//!     "paid"
//! }
//!
//! let cors = CorsLayer::new()
//!     .allow_origin(HeaderValue::from_static("https://shop.example.com"))
//!     .allow_methods([Method::POST])
//!     .allow_headers(browsers::request_headers([AUTHORIZATION]))
//!     .expose_headers(browsers::response_headers([]));
//! let idempotency = Idempotency::builder(MemoryStore::new())
//!     .status_header(true)
//!     .build();
//! let app: Router = Router::new()
//!     .route("/payments", post(create_payment))
//!     .layer(cors)
//!     .with_state(idempotency);
//! ```
//!
//! * Put the layer around everything that can answer, including a gateway and its 503. An answer without CORS headers
//!   is hidden from the page, as if there had been no answer, and its `Retry-After` is lost.
//! * A preflight is an `OPTIONS` request. It has no key, and it never reaches a store: `CorsLayer` answers it.
//! * CORS headers are not stored. A replay gets those of its own request, so one origin never gets another's.
//! * An operation with `header = "..."` needs that header in place of `Idempotency-Key`: pass it to [`request_headers`].
//!
//! # Keys made by a page
//!
//! The JavaScript client of this repository (`clients/javascript`) keeps one key for each intent over reloads and tabs,
//! in `IndexedDB`. Without it, the page must make the key before the first try, store it with the order that it belongs
//! to, and send the same key until the outcome is known. A key that is only in the click handler's memory does not
//! survive a reload, and the customer pays twice. Store the key in `IndexedDB` with `durability: "strict"`: Chromium
//! writes `localStorage` to the disk seconds later, and another tab may not see it at once.
//!
//! # Keys made by the browser
//!
//! Firefox sends an `Idempotency-Key` of its own with each POST and PATCH without one, if the preference
//! `network.http.idempotencyKey.enabled` is set: a number in quotes, such as `"9350738474783268121"`. The service
//! accepts it like any other key. The number stays the same if the browser itself repeats a request, but not if the
//! page does: it protects a form that is sent again after a lost connection, but not a repeated click. A script still
//! needs a key for each intent.
//!
//! Two consequences:
//!
//! * The number has 64 bits, and each browser draws its own. With a [scope](crate::IdempotencyBuilder::scope) for each
//!   user, the keys of two users never collide.
//! * An operation with `required = true` accepts a plain HTML form from such a browser, and answers 400 `missing-key` to
//!   all others. For forms, put a key into a hidden field and write `key = form.key`.

use http::HeaderName;
use http::header::{CONTENT_TYPE, DATE, LINK, RETRY_AFTER};

use crate::handle::{IDEMPOTENCY_DEGRADED, IDEMPOTENCY_STATUS, IDEMPOTENT_REPLAYED};

/// The header of the draft.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The request headers of a page of another origin (`Access-Control-Allow-Headers`): `Idempotency-Key`, `Content-Type`
/// (for a JSON body), and `others`.
#[must_use]
pub fn request_headers(others: impl IntoIterator<Item = HeaderName>) -> Vec<HeaderName> {
    with([IDEMPOTENCY_KEY, CONTENT_TYPE], others)
}

/// The response headers that a page of another origin reads (`Access-Control-Expose-Headers`): `Idempotent-Replayed`,
/// `Idempotency-Status`, `Idempotency-Degraded`, `Retry-After`, `Date` (a `Retry-After` can be a date), `Link` (of a
/// problem), and `others`.
#[must_use]
pub fn response_headers(others: impl IntoIterator<Item = HeaderName>) -> Vec<HeaderName> {
    let ours = [
        IDEMPOTENT_REPLAYED,
        IDEMPOTENCY_STATUS,
        IDEMPOTENCY_DEGRADED,
        RETRY_AFTER,
        DATE,
        LINK,
    ];
    with(ours, others)
}

fn with<const N: usize>(
    ours: [HeaderName; N],
    others: impl IntoIterator<Item = HeaderName>,
) -> Vec<HeaderName> {
    let mut names = Vec::from(ours);
    for other in others {
        if !names.contains(&other) {
            names.push(other);
        }
    }
    names
}
