//! Idempotency keys for [axum](https://docs.rs/axum) handlers: run once, store the response, replay
//! it byte for byte.
//!
//! # The problem
//!
//! A client that gets no response cannot know whether its request was carried out. It must send the request again, and
//! a service that treats the second request as a new one charges twice. So the client makes a key for each *intent* and
//! sends that key with every try, and the service carries out each intent once
//! ([draft-ietf-httpapi-idempotency-key-header-07](https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/07/)).
//! The hard part is everything that can happen between the effect and the response: a crash, a slow handler, a client
//! that disconnects, a store that fails.
//!
//! # The attribute
//!
//! ```
//! use axum::{Router, routing::post};
//! use idempotent_runtime::{Idempotency, idempotent};
//!
//! #[idempotent(ttl_hours = 24)]
//! async fn create_payment(amount: String) -> String {
//!     format!("charged {amount}")
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), idempotent_runtime::Error> {
//! let idempotency = Idempotency::connect("memory:").await?;
//! let app: Router = Router::new()
//!     .route("/payments", post(create_payment))
//!     .with_state(idempotency);
//! # Ok(())
//! # }
//! ```
//!
//! A request to `/payments` needs an `Idempotency-Key`. The first request with a key runs the handler; a retry gets the
//! same response, with `Idempotent-Replayed: true`. The same key with another body is a 422. While the first request is
//! still running, a retry is a 409 with `Retry-After`. [`macro@idempotent`] lists all arguments, and [`answers`] all
//! responses. [`IdempotencyBuilder`] has the settings that all operations share.
//!
//! # Webhooks
//!
//! A provider that delivers events sends no `Idempotency-Key`; use the id of the event as the key. `fingerprint` says
//! what must be equal in two deliveries. The default is the whole body, which may contain a delivery number.
//!
//! ```
//! # use idempotent_runtime::{Idempotency, idempotent};
//! #[derive(serde::Deserialize)]
//! struct Event {
//!     id: String,
//!     charge: String,
//! }
//!
//! #[idempotent(name = "webhooks.charge", key = event.id, fingerprint = event.charge, ttl = "7d")]
//! async fn charge_changed(axum::Json(event): axum::Json<Event>) -> String {
//!     format!("{} is settled", event.charge)
//! }
//! # axum::Router::<Idempotency>::new().route("/", axum::routing::post(charge_changed));
//! ```
//!
//! If the body is signed, verify the signature in an extractor of your own, in place of `Json`: its rejection comes
//! first, on replays too.
//!
//! # Layers
//!
//! A layer around the handler sees a replay like any other response. The attribute compares the body that the handler
//! receives and stores the response that the handler returns: behind a layer that decompresses requests, it compares
//! the decoded body; behind a layer that compresses responses, it stores the uncompressed response. A body over a limit
//! gets axum's 413. When a timeout layer answers in place of the handler (504, 408), the handler continues in the
//! background: a retry first gets `in-flight`, and later the replay.
//!
//! **What a layer does after the handler is not a part of its response**, which is stored by then. A layer that commits a
//! transaction or saves a session, and fails, answers an error, but the retry replays the handler's success. And if the client
//! disconnects, the handler finishes without it. Commit in the handler, or write with [`#[tx]`](Transactions).
//!
//! A switch of protocols cannot be replayed: do not protect a handler that upgrades its connection (101, or `CONNECT`). A `GET`
//! passes through, and so does a WebSocket over HTTP/1.1.
//!
//! # Without HTTP
//!
//! Queues deliver messages twice, and jobs are restarted. On a function that borrows the handle, the same
//! attribute returns the first result to every later call with the key:
//!
//! ```
//! use idempotent_runtime::{Idempotency, ExecuteError, idempotent};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize)]
//! struct Order {
//!     id: u64,
//!     amount: u64,
//! }
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Receipt {
//!     amount: u64,
//! }
//!
//! #[derive(Debug)]
//! enum SettleError {
//!     /// Nothing happened: the key is free for the next delivery.
//!     Unreachable,
//!     /// It is running elsewhere, the store is unavailable, ...: see its kind.
//!     NotExecuted(ExecuteError),
//! }
//!
//! impl From<ExecuteError> for SettleError {
//!     fn from(reason: ExecuteError) -> Self {
//!         Self::NotExecuted(reason)
//!     }
//! }
//!
//! #[idempotent(name = "orders.settle", key = order.id, ttl_hours = 24)]
//! async fn settle(idempotency: &Idempotency, order: Order) -> Result<Receipt, SettleError> {
//!     Ok(Receipt { amount: order.amount })
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let idempotency = Idempotency::connect("memory:").await?;
//! for _delivery in 1..=2 {
//!     let receipt = settle(&idempotency, Order { id: 7, amount: 1000 }).await.unwrap();
//!     assert_eq!(receipt, Receipt { amount: 1000 });
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Idempotency::execute`] does the same without the attribute, and says whether the function ran.
//!
//! # What is guaranteed
//!
//! * **One run per key**, across threads and, with a shared store, across processes. Only the owner of the claim runs,
//!   and taking a claim is one atomic operation of the store.
//! * **The handler survives its client.** If the client disconnects, the server drops the handler's future; the handler
//!   then continues in a background task, with its tracing span (but without tokio's task-locals, which cannot move).
//!   [`Idempotency::shutdown`] waits for these tasks.
//! * **A response is sent only after it is stored.** If a client has seen a response, every retry will see the same
//!   response, until the TTL ends. The exceptions: if the store fails after the handler has run, the response is sent,
//!   and stored in the background ([`choosing_a_store`](choosing_a_store#when-the-store-fails)); a streamed body is
//!   stored at its end, and a body over `max_response_bytes` not at all
//!   ([`response-not-retained`](answers#response-not-retained)); a [`Release`], and an error that [`ReplayErrors`]
//!   excludes, is not stored and frees the key.
//! * **No attempt touches another attempt's claim.** Every write names the random [`Token`] of its claim. An attempt
//!   that lost its claim changes nothing, and answers with the stored response.
//!
//! # What is not guaranteed
//!
//! * After a **crash** between effect and record it is unknown whether the effect took place. By default a retry is
//!   told so (409 `outcome-unknown`), and the handler does not run again while the record is kept ([30
//!   days](IdempotencyBuilder::abandoned_retention) by default). If the effect is a row in your own database, write it
//!   in the record's transaction, and there is no such gap: see [`Transactions`]. [`which_guarantee`] helps you to
//!   choose the mode for your handler.
//! * A guarantee holds only as long as the store keeps its records: [`choosing_a_store`] says what each store
//!   can lose.
//! * A response is replayed to every client that sends the same key in the same scope. **Set a scope if
//!   there is more than one tenant** (`scope = expr`, or [`IdempotencyBuilder::scope`]).
//!
//! # Cargo features
//!
//! | feature | default | what it brings |
//! | --- | --- | --- |
//! | `memory` | yes | the in-process store |
//! | `redis` | no | records in Redis, Valkey, Redis Cluster |
//! | `postgres` | no | records in PostgreSQL |
//! | `tokio-postgres` | no | `#[tx]` on [a pool of deadpool-postgres](store::postgres#transactions-by-tokio-postgres); enables `postgres` |
//! | `sqlite` | no | records in a SQLite file |
//! | `mysql` | no | records in MySQL or MariaDB |
//! | `blake3` | no | BLAKE3 instead of SHA-256 for fingerprints, if the application [selects it](IdempotencyBuilder::digest) |
//! | `metrics` | no | an [observer] for the `metrics` facade |
//! | `admin` | no | `admin::router`: a page for operators |
//! | `forgotten-routes` | no | [a layer](ForgottenRoutesLayer) that finds unprotected handlers |
//! | `test-util` | no | [tools](testing) for the tests of an application |
//! | `utoipa` | no | [types](openapi) that document a protected operation, for utoipa 5 |
//! | `aide` | no | protected handlers [document themselves](openapi) with aide 0.15 |
//! | `conformance` | no | the test kit for stores |
//!
//! [`store::connect`] opens a store by its URL, and your application needs no database crate. To give a store your own
//! pool (`PostgresStore::new(pool)` and its counterparts), and for `#[tx]`, your application needs sqlx 0.9, or
//! deadpool-postgres 0.14 with the feature `tokio-postgres`.
//!
//! # Versions of other crates
//!
//! These crates are part of the public API: a new major version of one of them is a new major version of this crate.
//!
//! | crate | why it is part of the API |
//! | --- | --- |
//! | axum 0.8 | handlers and extractors implement its traits; the attribute expands to its types |
//! | http 1 | [`StoredResponse`], [`HeaderFilter`] and [`Problem`] hold its headers and statuses |
//! | bytes 1 | the bodies of [`StoredResponse`] and the progress of a [`Record`] |
//! | serde 1 | values of `scope`, `key` and `fingerprint`, and the arguments of [`Idempotency::execute`], are `Serialize` |
//! | serde\_json 1 | the canonical form of those values: if it changed, a retry would be another request |
//! | async-trait 0.1 | [`store::Store`] is declared with it, and an implementation needs it |
//! | tracing 0.1 | log events, and the span that moves to the background with a handler |
//! | tokio 1 | everything runs in its runtime |
//! | sqlx 0.9 | features `postgres`, `sqlite`, `mysql`: pools given to a store, and the connection of `#[tx]` |
//! | tokio-postgres 0.7, deadpool-postgres 0.14 | feature `tokio-postgres`: the pool given to a store, and the clients of `#[tx]` |
//! | metrics 0.24 | feature `metrics`: its recorder receives the metrics |
//! | tower-layer 0.3, tower-service 0.3 | features `forgotten-routes` and `test-util`: their traits |
//! | utoipa 5, aide 0.15 | the features of these names: their traits |
//! | redis 1 | feature `redis`: connections given to `RedisStore::new` |
//!
//! # What is logged
//!
//! Events go to [`tracing`]; [`operating`] says which to alert on. Warnings: lost claims, failed store calls, responses
//! that are not stored yet, keys that become abandoned, and an operator's decisions (and what an operator reveals on
//! the page), with the operator's name. Errors: requests that get 503 because the store failed, panics of handlers,
//! responses that are stored without their body because of the store, and abandoned records that are purged. A record
//! appears as the first four bytes of its digest; keys, scopes, bodies and tokens never appear.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "admin")]
pub mod admin;
pub mod answers;
pub mod browsers;
mod canonical;
pub mod changing_a_service;
pub mod choosing_a_store;
mod clock;
mod digest;
mod engine;
mod error;
mod exact;
mod execute;
mod fingerprint;
mod handle;
mod http;
mod key;
mod keyed;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod observer;
#[cfg(any(feature = "utoipa", feature = "aide"))]
pub mod openapi;
pub mod operating;
mod operation;
mod operator;
mod policy;
mod prompt;
mod record;
mod recovery;
#[cfg(feature = "__simulation")]
#[doc(hidden)]
pub mod simulation;
pub mod store;
#[cfg(feature = "test-util")]
pub mod testing;
#[cfg(all(feature = "test-util", feature = "memory"))]
pub mod testing_your_handlers;
mod unwind;
pub mod which_guarantee;

pub use idempotent_macros::idempotent;

pub use self::clock::{Clock, ManualClock, SystemClock};
pub use self::digest::Digest;
pub use self::engine::StepError;
pub use self::error::{Error, ErrorKind};
pub use self::execute::{ExecuteError, ExecuteErrorKind, Execution};
pub use self::fingerprint::Fingerprint;
pub use self::handle::{
    Attempt, HeaderFilter, IDEMPOTENCY_DEGRADED, IDEMPOTENCY_STATUS, IDEMPOTENT_REPLAYED,
    Idempotency, IdempotencyBuilder, OnStoreFailure, Problem, ProblemCode, Transactions,
};
pub use self::http::{Answered, Release};
#[cfg(feature = "forgotten-routes")]
pub use self::http::{ForgottenRoutes, ForgottenRoutesLayer};
pub use self::key::{InvalidKey, Key, KeySyntax, RecordKey};
pub use self::operator::{Inspection, Locator, Resolution, SecretsCheck, Seen};
pub use self::policy::{FingerprintSource, InFlight, KeyAge, OnAbandoned, Policy, ReplayErrors};
pub use self::record::{
    AuditLine, DecodeError, Owner, Record, RecordState, StoredResponse, Token, UnusableStep,
};
pub use self::recovery::{Abandoned, Recovery};

/// The items that the expansion of `#[idempotent]` uses. Not public; they may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use axum::response::Response;

    pub use crate::execute::{Fallible, FromExecuteError, Storable, call};
    pub use crate::handle::{Argument, Inputs};
    pub use crate::http::{Extraction, IdempotentRequest, Unbound, Work};
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
