//! OpenAPI: a protected operation documents its key, its problems and its replays.
//!
//! # The problem
//!
//! What a client has to know about a protected operation is the same for all of them: the header with the key, the problems that
//! come instead of an answer, and how long to wait. Written manually above each handler, it is soon missing or wrong.
//!
//! # With utoipa
//!
//! Feature `utoipa`. `#[utoipa::path]` stands **above** `#[idempotent]`, and names two types of this module:
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
//! `IdempotencyResponses` alone documents the problems only. Around the handler's own responses it also says that each of them can be
//! a replay, and where both have the same status, that it can be either. `examples/openapi.rs` in the repository is a whole
//! service.
//!
//! # With aide
//!
//! Feature `aide`. A handler documents itself: its arguments, the key and the problems, with nothing to write. Its answer is not
//! known, because the attribute returns a response:
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
//! The documentation does not see the attribute's arguments. For an operation with `header = "..."` or `required = false`, say it
//! with a type: `IdempotencyKeyHeader<OrderKey>` with utoipa, and `openapi::key_header::<OrderKey>(operation)` with aide.
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
//! For one with `key = expr`, there is no header: leave out the parameter with utoipa, and take it out with `openapi::no_key_header` in
//! aide.
//!
//! # What is not documented
//!
//! * `response-not-retained`, a problem with the handler's own status: over 1 MiB of response, which few operations ever answer.
//! * `Idempotency-Status` and `Idempotency-Degraded`, which are by choice.
//! * What [`render_problems`](crate::IdempotencyBuilder::render_problems) makes of a problem.
//! * What extractors reject, such as the 415 of `Json`: utoipa knows nothing of it, and aide asks the extractor.

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
