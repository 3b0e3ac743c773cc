//! A page for operators: what is stored, and what is done about an abandoned key.
//!
//! # The problem
//!
//! After a crash between an effect and its record the key is abandoned, and its client is told `outcome-unknown` until
//! an operator has decided. [`Idempotency::list`], [`inspect`](Idempotency::inspect) and
//! [`resolve_as`](Idempotency::resolve_as) are functions for a tool that has yet to be written; this is one, for a
//! browser and for programs.
//!
//! # What it shows and does
//!
//! | route | |
//! | --- | --- |
//! | `GET /`, `GET /overview` | how many records are abandoned, in flight and completed, by operation, with a picture of their ages |
//! | `GET /records` | a list, page by page: `state`, `operation`, `label`, `older_than` (`2h`), `after` (a cursor) |
//! | `GET /records/{key}` | one record, without its body and without the values of its headers; also by the first digits of its key, at least 4, if no other record has them |
//! | `POST /find` | the record of an `operation`, a client's `key` and its `scope` (as JSON) |
//! | `POST /records/{key}/reveal` | the same with both; it is logged who has seen them |
//! | `POST /records/{key}/resolve` | a decision about an abandoned record, with a reason, by [`Idempotency::resolve_as`] |
//! | `POST /records/{key}/forget` | removes a record, after a confirmation and with a reason, which is logged |
//!
//! ```
//! use axum::Router;
//! use http::request::Parts;
//! use idempotent_runtime::{Idempotency, admin};
//!
//! /// What a layer of the application's own has found out about a session.
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
//! The handle has to be on the service's store; to find a client's key, with the same namespace and secret. Its TTL ([`IdempotencyBuilder::ttl`](crate::IdempotencyBuilder::ttl))
//! is how long an operator's answer is replayed at least; it lives no shorter than the abandoned record would have. The router works under any prefix, because all links are relative; so
//! it does behind a proxy that takes a prefix away. With `Router::nest` instead of `nest_service` it works too, but for the prefix with a
//! slash at its end (`/admin/idempotency/`), which axum then answers with an empty 404.
//!
//! # What is guaranteed
//!
//! * **Nothing is reachable by default.** There is no router without a function that says who a request is from
//!   ([`Permission`]), and it is asked first, for each route, each method and each unknown path.
//! * **No other site can decide** in an operator's name: a request that changes something must come from the page's own
//!   origin, by `Sec-Fetch-Site`, or else `Origin`, or else be JSON, which a browser does not send across sites
//!   unasked. A proxy has to pass on `Host` unless the page is served over HTTPS.
//! * **No key, scope or body is shown.** A store has neither keys nor scopes, and what is typed in to find a record is
//!   not in an address. A body and the values of its
//!   headers are shown on request, and nothing that is shown is cached (`no-store`).
//! * **A decision is about the attempt that the operator has seen.** If the record has changed, nothing is done, and the
//!   page says so. Resolving is one atomic step with that; forgetting looks first and then removes, so that what happens
//!   in between is removed too, and an instance may replay the response for up to 10 s more, from its cache.
//! * **No script** runs and nothing is loaded, by a `Content-Security-Policy`. All text from records is escaped.
//!
//! # Programs
//!
//! Each route answers with JSON if the request has `Accept: application/json` (and not `text/html`), or if its content
//! is JSON; what cannot be done is then `application/problem+json`. A decision is
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
//! or, with `decision`, `reason` and `seen` alone, `"retry"`; or `"replay-value"`, whose `body` is the JSON of a
//! function's result, and which needs `"confirm": "yes"` where the operation reads like a handler's (`POST /payments`): a
//! handler's clients cannot use a value. `seen` is what the record's JSON has: the attempt of that record, and no other, is decided about. The answer has `outcome`: `resolved` (200), `not-found` (404), or `running`, `completed` or
//! `changed` (409), after which nothing was changed. To forget: `"decision": "forget"`, `reason`, `seen`, `state` as
//! it was, and `"confirm": "yes"`; its outcome is `forgotten`. For a record that cannot be read (500), `state` is
//! `unreadable`, and there is no `seen`.
//! `POST /find` answers with the record; `"kind": "text"` is for a key of [`Idempotency::execute`].
//!
//! # Bounds
//!
//! A store lists and cannot count. The overview counts at most 25,000 abandoned records, 10,000 in flight and 5,000 that
//! are completed, for about 2 s, and says "at least" where it stopped; 503 if the store answered nothing by then. Redis may list a record twice while its table is
//! resized. A list has 50 records a page, in the order of the record keys, which are digests: not by age.
//! `older_than` finds old ones. Where a store cannot list (a Redis Cluster), the overview is 501, with the forms
//! that find a record by its client's key and open it by its own.
//!
//! The list is of the store: it has records of other namespaces too, one for each secret while a secret is being
//! rotated, and one of an internal check for each namespace. A decision is about one record. While a secret is being
//! rotated, decide with [`Idempotency::resolve_as`] and a locator by the client's key instead, which resolves all
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

/// The page, as a router to be nested: `Router::nest_service("/admin/idempotency", router(...))`.
///
/// `authorise` says for each request who it is from, or refuses it: see [`Permission`]. It sees the request's head,
/// with the extensions that layers of the application have put there. There is no default: without it, the page does not
/// compile.
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
