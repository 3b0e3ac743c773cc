//! Browsers: pages of another origin, and browsers that send keys by themselves.
//!
//! A page of the service's own origin needs nothing on this page. A page of another origin (`https://shop.example.com` calls
//! `https://api.example.com`) may send an `Idempotency-Key`, and may read the headers of an answer, only if the service says so by
//! CORS. If it does not, the first is an error that a developer sees at once. The second is not: the page does not see
//! `Retry-After` and waits too short, and it does not see `Idempotent-Replayed`, so that a stored failure looks like a failure of
//! the network.
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
//! * Put the layer around everything that can answer, a gateway and its 503 included. A browser shows a page nothing of an answer
//!   without CORS headers: to the page it is no answer, and its `Retry-After` is lost.
//! * A preflight is an `OPTIONS` request. It has no key, and it never reaches a store: `CorsLayer` answers it.
//! * CORS headers are not stored. A replay gets those of its own request, so one origin never gets another's.
//! * An operation with `header = "..."` needs that header in place of `Idempotency-Key`: pass it to [`request_headers`].
//!
//! # Keys that are made by a page
//!
//! The JavaScript client of this repository keeps one key for each intent over reloads and tabs. A page without it makes the key
//! before the first try, stores it with what it belongs to, and sends the same key until the outcome is known.
//! A key that is made in the click handler does not survive a reload, and the customer pays twice. Store it in `IndexedDB` with
//! `durability: "strict"`: Chromium writes `localStorage` to the disk seconds later, and another tab may not see it at once.
//!
//! # Keys that are made by the browser
//!
//! Firefox sends an `Idempotency-Key` of its own with each POST and PATCH without one, if the preference
//! `network.http.idempotencyKey.enabled` is set: a number in quotes, such as `"9350738474783268121"`. It is a valid key, and accepted like any
//! other. It is the same when the browser itself repeats a request, and another one when the page does: it protects a form that is
//! sent again after a lost connection, and not a click that is repeated. For a script it does not replace a key for each intent.
//!
//! Two consequences:
//!
//! * The number has 64 bits, and each browser draws its own. With a [scope](crate::IdempotencyBuilder::scope) for each
//!   user, a key of one browser never meets that of another.
//! * An operation with `required = true` accepts a plain HTML form from such a browser, and answers 400 `missing-key` to
//!   all others. For forms, put a key into a hidden field and write `key = form.key`.

use http::HeaderName;
use http::header::{CONTENT_TYPE, DATE, LINK, RETRY_AFTER};

use crate::handle::{IDEMPOTENCY_DEGRADED, IDEMPOTENCY_STATUS, IDEMPOTENT_REPLAYED};

/// The header of the draft.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What a page of another origin sends (`Access-Control-Allow-Headers`): `Idempotency-Key`, `Content-Type` (a JSON body
/// needs it), and these.
#[must_use]
pub fn request_headers(others: impl IntoIterator<Item = HeaderName>) -> Vec<HeaderName> {
    with([IDEMPOTENCY_KEY, CONTENT_TYPE], others)
}

/// What a page of another origin reads (`Access-Control-Expose-Headers`): `Idempotent-Replayed`, `Idempotency-Status`,
/// `Idempotency-Degraded`, `Retry-After`, `Date` (a `Retry-After` can be a date), `Link` (of a problem), and these.
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
