use crate::record::UnusableStep;
use crate::store::StoreError;

/// Why [`Attempt::step`](crate::Attempt::step) has no result.
///
/// A handler's own error type takes it in, so that `?` works:
///
/// ```
/// use axum::response::{IntoResponse, Response};
/// use http::StatusCode;
/// use idempotent_runtime::{Attempt, StepError, idempotent};
///
/// enum PaymentError {
///     Declined,
///     Step(StepError<Declined>),
/// }
///
/// #[derive(Debug)]
/// struct Declined;
///
/// impl From<StepError<Declined>> for PaymentError {
///     fn from(error: StepError<Declined>) -> Self {
///         match error {
///             StepError::Step(Declined) => Self::Declined,
///             error => Self::Step(error),
///         }
///     }
/// }
///
/// impl IntoResponse for PaymentError {
///     fn into_response(self) -> Response {
///         match self {
///             Self::Declined => StatusCode::PAYMENT_REQUIRED.into_response(),
///             // What became of the record is the crate's to say.
///             Self::Step(error) => error.into_response(),
///         }
///     }
/// }
///
/// impl IntoResponse for Declined {
///     fn into_response(self) -> Response {
///         StatusCode::PAYMENT_REQUIRED.into_response()
///     }
/// }
///
/// #[idempotent(ttl_hours = 24, on_abandoned = "retry")]
/// async fn pay(attempt: Attempt) -> Result<String, PaymentError> {
///     let charge = attempt.step("charge", charge()).await?;
///     Ok(format!("charge {charge}"))
/// }
///
/// async fn charge() -> Result<u64, Declined> {
///     Ok(1)
/// }
/// # axum::Router::<idempotent_runtime::Idempotency>::new().route("/", axum::routing::post(pay));
/// ```
///
/// It is a response itself where the step's error is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError<E> {
    /// The step ran and failed, with its own error. Nothing is kept of it.
    #[error("the step failed")]
    Step(#[source] E),
    /// The claim is lost: this process was taken for dead, and another attempt has the key, or the
    /// store has forgotten it; or the run is over, because its answer is stored. The step may have run
    /// when the claim was lost meanwhile; it has not when that was known before. **The handler must
    /// stop**: whatever it does now, another attempt does too. What it answers does not matter, the
    /// answer is the record's.
    #[error("the claim is lost")]
    Lost,
    /// There is a step of this label already in this run. Nothing was run. In a loop, each turn
    /// needs a label of its own.
    #[error("duplicate step label `{0}`")]
    Repeated(String),
    /// An earlier attempt has finished the step, but with a result of another type, or one that could
    /// not be kept. Nothing was run: that would be the step's second time.
    #[error(transparent)]
    Unusable(UnusableStep),
    /// This process stood still, or could not reach the store, for longer than its lease, and the store cannot be asked whether the
    /// claim is still its own. The step was not run.
    #[error("the record cannot be read")]
    Unreadable(#[source] StoreError),
    /// The record has no room for a step of this label. Nothing was run.
    #[error("there is no room for step `{0}`")]
    Full(String),
    /// The handler writes in a transaction with its record, which keeps no steps: what it has not
    /// committed has not happened. Nothing was run. For effects elsewhere there is
    /// [`Attempt::derived_key`](crate::Attempt::derived_key).
    #[error("a transaction stores no steps: use a derived key")]
    InTransaction,
}
