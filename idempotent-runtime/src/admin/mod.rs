//! A page for operators: look at records, and decide about abandoned keys.
//!
//! # The problem
//!
//! After a crash between an effect and its record the key is abandoned, and its client gets `outcome-unknown` until an
//! operator has decided. This module is a ready-made tool for that, for browsers and for programs, on top of
//! [`Idempotency::list`], [`inspect`](Idempotency::inspect) and [`resolve_as`](Idempotency::resolve_as).
//!
//! # What it shows and does
//!
//! | route | |
//! | --- | --- |
//! | `GET /`, `GET /overview` | how many records are abandoned, in flight and completed, by operation, with a picture of their ages |
//! | `GET /records` | a list, page by page: `state`, `operation`, `label`, `older_than` (`2h`), `after` (a cursor) |
//! | `GET /records/{key}` | one record, without its body and the values of its headers; `key` is the record key, or its first digits (at least 4) if no other record has them |
//! | `POST /find` | the record of an `operation`, a client's `key` and its `scope` (as JSON) |
//! | `POST /records/{key}/reveal` | the same with both; the log says who has seen them |
//! | `POST /records/{key}/resolve` | a decision about an abandoned record, with a reason, by [`Idempotency::resolve_as`] |
//! | `POST /records/{key}/forget` | removes a record, after a confirmation and with a reason, which is logged |
//!
//! ```
//! use axum::Router;
//! use http::request::Parts;
//! use idempotent_runtime::{Idempotency, admin};
//!
//! /// What a layer of the application has found out about a session.
//! #[derive(Clone)]
//! struct User {
//!     name: String,
//!     is_operator: bool,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), idempotent_runtime::Error> {
//! let idempotency = Idempotency::connect("memory:").await?;
//! let authorise = |parts: &Parts| {
//!     let user = parts.extensions.get::<User>()?;
//!     user.is_operator.then(|| user.name.clone())
//! };
//! let app: Router = Router::new()
//!     .nest_service("/admin/idempotency", admin::router(idempotency, authorise));
//! # Ok(())
//! # }
//! ```
//!
//! The handle must be on the service's store, and must have the same namespace and secret to find a client's key. An
//! operator's response is replayed for at least the handle's TTL
//! ([`IdempotencyBuilder::ttl`](crate::IdempotencyBuilder::ttl)) and for as long as the abandoned record would have
//! lived. The router works under any prefix, because all links are relative, also behind a proxy that strips a prefix.
//! With `Router::nest` instead of `nest_service`, axum answers the prefix with a trailing slash (`/admin/idempotency/`)
//! with an empty 404; all else works.
//!
//! # What is guaranteed
//!
//! * **Nothing is reachable by default.** The router needs a function that says who sent a request ([`Permission`]). It
//!   is called first, for each route, each method and each unknown path.
//! * **No other site can decide** in an operator's name: a request that changes something must come from the page's own
//!   origin, according to `Sec-Fetch-Site` or else `Origin`; without both headers it must be JSON, which a browser does
//!   not send across sites without asking. A proxy must forward `Host` unless the page is served over HTTPS.
//! * **No key or scope is shown.** A store has neither, and the input of the search form is not part of a URL. A body
//!   and the values of headers are shown only on request. No page is cached (`no-store`).
//! * **A decision is about the attempt that the operator has seen.** If the record has changed, nothing is done, and
//!   the page says so. For resolving, the check and the decision are one atomic step. Forgetting checks first and then
//!   removes, so a change in between is removed too, and an instance may replay the response from its cache for another
//!   10 s.
//! * **No script** runs and nothing is loaded, because of a `Content-Security-Policy`. All text from records is
//!   escaped.
//!
//! # Programs
//!
//! Each route answers with JSON if the request has `Accept: application/json` (and not `text/html`), or if its content
//! is JSON; errors are then `application/problem+json`. A decision looks like this:
//!
//! ```json
//! {
//!     "decision": "replay",
//!     "reason": "the bank's statement of May 4 says: paid",
//!     "seen": "1@1780000000000",
//!     "status": 201,
//!     "content_type": "application/json",
//!     "body": "{\"id\":7}"
//! }
//! ```
//!
//! Other decisions are `"retry"`, with only `reason` and `seen`, and `"replay-value"`, whose `body` is the JSON of a
//! function's result. The latter needs `"confirm": "yes"` if the operation looks like a handler's (`POST /payments`),
//! because a handler's clients cannot use a value. Copy `seen` from the record's JSON: the decision applies to that
//! attempt only. The answer has an `outcome`: `resolved` (200); `not-found` (404); or `running`, `completed` or
//! `changed` (409), which mean that nothing was changed. To forget a record, send `"decision": "forget"`, `reason`,
//! `seen`, the record's `state`, and `"confirm": "yes"`; the outcome is `forgotten`. For a record that cannot be read
//! (500), `state` is `unreadable`, and there is no `seen`. `POST /find` answers with the record; `"kind": "text"` is
//! for a key of [`Idempotency::execute`].
//!
//! # Bounds
//!
//! A store can list records, but not count them. The overview counts at most 25,000 abandoned records, 10,000 in flight
//! and 5,000 completed, for about 2 s, and says "at least" if it stopped early; it is a 503 if the store has not
//! replied by then. Redis may list a record twice while its table is resized. A list has 50 records per page, in the
//! order of the record keys, which are digests, so not by age. `older_than` finds old records. If the store cannot list
//! (a Redis Cluster), the overview is a 501, with forms that find a record by the client's key or by the record key.
//!
//! The list covers the whole store: records of other namespaces too, one record for each secret while a secret is being
//! rotated, and for each namespace one record of an internal check. A decision is about one record. While a secret is
//! being rotated, decide with [`Idempotency::resolve_as`] and a locator by the client's key instead, which resolves all
//! records of a request.

mod decide;
mod draft;
mod failure;
mod find;
mod guard;
mod html;
mod json;
mod origin;
mod outcome;
mod overview;
mod page;
mod permission;
mod prefix;
mod query;
mod record;
mod records;
mod reply;
mod style;
mod survey;
mod visit;
mod words;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use http::request::Parts;

use self::guard::{Gate, guard};
pub use self::permission::Permission;
use crate::Idempotency;

/// The router of the page. Nest it: `Router::nest_service("/admin/idempotency", router(...))`.
///
/// `authorise` says for each request who sent it, or refuses it: see [`Permission`]. It sees the request's head, with
/// the extensions that layers of the application have added. There is no default: a call without it does not compile.
///
/// ```compile_fail
/// # async fn without(idempotency: idempotent_runtime::Idempotency) -> axum::Router {
/// idempotent_runtime::admin::router(idempotency)
/// # }
/// ```
pub fn router<S, F, P>(idempotency: Idempotency, authorise: F) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(&Parts) -> P + Send + Sync + 'static,
    P: Permission + Send + 'static,
{
    Router::new()
        .route("/", get(overview::show))
        .route("/overview", get(overview::show))
        .route("/records", get(records::show))
        .route("/records/{record_key}", get(record::show))
        .route("/records/{record_key}/reveal", post(record::reveal))
        .route("/records/{record_key}/resolve", post(decide::resolve))
        .route("/records/{record_key}/forget", post(decide::forget))
        .route("/find", post(find::find))
        .fallback(overview::fallback)
        .layer(from_fn_with_state(Gate::new(authorise), guard))
        .with_state(idempotency)
}
