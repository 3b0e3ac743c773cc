//! OpenAPI: a protected operation documents its key, its problems and its replays.
//!
//! # The problem
//!
//! All protected operations have the same things to document: the header with the key, the problems that come instead
//! of an answer, and how long to wait. Written manually for each handler, this documentation is soon missing or wrong.
//!
//! # With utoipa
//!
//! Enable the feature `utoipa`. Put `#[utoipa::path]` **above** `#[idempotent]`, and use two types of this module:
//!
//! ```
//! # #[cfg(feature = "utoipa")]
//! # mod with_utoipa {
//! use axum::Json;
//! use idempotent_runtime::idempotent;
//! use idempotent_runtime::openapi::{IdempotencyKeyHeader, IdempotencyResponses};
//!
//! #[derive(serde::Deserialize, utoipa::ToSchema)]
//! struct PaymentRequest {
//!     amount: u64,
//! }
//!
//! /// The handler's own answers.
//! #[derive(utoipa::IntoResponses)]
//! #[allow(dead_code)]
//! enum PaymentResponses {
//!     /// Paid.
//!     #[response(status = 201)]
//!     Paid(String),
//! }
//!
//! #[utoipa::path(
//!     post,
//!     path = "/payments",
//!     params(IdempotencyKeyHeader),
//!     request_body = PaymentRequest,
//!     responses(IdempotencyResponses<PaymentResponses>),
//! )]
//! #[idempotent(ttl_hours = 24)]
//! async fn create_payment(Json(payment): Json<PaymentRequest>) -> String {
//!     format!("charged {}", payment.amount)
//! }
//!
//! #[derive(utoipa::OpenApi)]
//! #[openapi(paths(create_payment))]
//! struct Api;
//! # }
//! ```
//!
//! `IdempotencyResponses` alone documents only the problems. Around the handler's own responses, it also documents that
//! each of them can be a replay. If a response and a problem have the same status, it documents both.
//! `examples/openapi.rs` in the repository is a complete service.
//!
//! # With aide
//!
//! Enable the feature `aide`. A handler then documents its arguments, the key and the problems by itself. Add its
//! answer, which aide does not know, because the attribute returns a `Response`:
//!
//! ```
//! # #[cfg(feature = "aide")]
//! # mod with_aide {
//! use aide::axum::{ApiRouter, routing::post_with};
//! use idempotent_runtime::{Idempotency, idempotent, openapi};
//!
//! #[idempotent(ttl_hours = 24)]
//! async fn create_payment(amount: String) -> String {
//!     format!("charged {amount}")
//! }
//!
//! fn routes() -> ApiRouter<Idempotency> {
//!     ApiRouter::new().api_route(
//!         "/payments",
//!         post_with(create_payment, |operation| {
//!             openapi::replayed(operation.response::<200, String>())
//!         }),
//!     )
//! }
//! # }
//! ```
//!
//! # Another header, or an optional key
//!
//! The documentation does not see the attribute's arguments. For an operation with `header = "..."` or `required =
//! false`, use a type that says so: `IdempotencyKeyHeader<OrderKey>` with utoipa, and
//! `openapi::key_header::<OrderKey>(operation)` with aide.
//!
//! ```
//! use idempotent_runtime::openapi::KeyHeader;
//!
//! struct OrderKey;
//!
//! impl KeyHeader for OrderKey {
//!     const NAME: &'static str = "X-Order-Key";
//!     const REQUIRED: bool = false;
//! }
//! ```
//!
//! An operation with `key = expr` has no header: omit the parameter with utoipa, and remove it with
//! `openapi::no_key_header` in aide.
//!
//! # What is not documented
//!
//! * `response-not-retained`, a problem with the handler's own status: only for responses over 1 MiB, which are rare.
//! * `Idempotency-Status` and `Idempotency-Degraded`, which are optional.
//! * The format of [`render_problems`](crate::IdempotencyBuilder::render_problems).
//! * Rejections of extractors, such as the 415 of `Json`: utoipa does not know them; aide asks the extractor.

#[cfg(feature = "aide")]
mod aide;
mod facts;
#[cfg(feature = "utoipa")]
mod utoipa;

#[cfg(feature = "aide")]
pub use self::aide::{key_header, no_key_header, replayed};
pub use self::facts::{DefaultKeyHeader, KeyHeader};
#[cfg(feature = "utoipa")]
pub use self::utoipa::{IdempotencyKeyHeader, IdempotencyResponses, NoResponses};
