//! Responses that are not stored.

use std::time::Duration;

use axum::response::{IntoResponse, Response};

use crate::engine::StepError;
use crate::handle::problem::{Problem, ProblemCode, Problems};

/// A response that says "nothing happened, do not store this": it is sent, the key becomes free, and a retry runs the
/// handler again.
///
/// Use it only if the handler knows that no effect took place, for example because a card network refused the
/// connection, or if a second run has no further effect, as with [another protected
/// service](crate::which_guarantee#another-protected-service). The results of finished [steps](crate::Attempt::step)
/// are forgotten.
///
/// ```
/// use http::StatusCode;
/// use idempotent_runtime::{Release, idempotent};
///
/// #[idempotent(ttl_hours = 24)]
/// async fn book() -> Result<&'static str, Release<StatusCode>> {
///     Err(Release(StatusCode::SERVICE_UNAVAILABLE))
/// }
/// # axum::Router::<idempotent_runtime::Idempotency>::new().route("/", axum::routing::post(book));
/// ```
///
/// Your own error type can use it for some of its errors: `Self::BankUnreachable => Release(response).into_response()`
/// in its `IntoResponse`.
#[derive(Clone, Copy, Debug)]
pub struct Release<R>(pub R);

/// Marks a response that is not to be stored, and says what of the key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unstored {
    /// Nothing happened: it is free.
    Release,
    /// It is free if nothing is known to have happened.
    Withdraw,
}

impl<R: IntoResponse> IntoResponse for Release<R> {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        response.extensions_mut().insert(Unstored::Release);
        response
    }
}

/// The step's own error becomes its own response. Every other error is logged and becomes the problem `handler-failed`
/// (500) in the crate's own format, even if the store is unavailable: the handler has already begun, so no answer may
/// say that nothing was done. The response is not stored if another attempt may continue: after [`StepError::Lost`],
/// [`StepError::Unusable`] and [`StepError::Unreadable`].
impl<E: IntoResponse> IntoResponse for StepError<E> {
    fn into_response(self) -> Response {
        let error = match self {
            Self::Step(error) => return error.into_response(),
            error => error,
        };
        error.log();
        let mut problem = Problem::new(ProblemCode::HandlerFailed);
        if matches!(&error, Self::Unreadable(cause) if cause.may_have_happened()) {
            problem = problem.retry_after(Duration::from_secs(1));
        }
        let mut response = Problems::default().render(&problem);
        if matches!(error, Self::Lost | Self::Unusable(_) | Self::Unreadable(_)) {
            response.extensions_mut().insert(Unstored::Withdraw);
        }
        response
    }
}

impl<E> StepError<E> {
    fn log(&self) {
        match self {
            Self::Lost => tracing::warn!("a handler lost its claim between its steps"),
            Self::Unreadable(cause) => tracing::error!(
                error = cause as &dyn std::error::Error,
                "cannot find out whether a step may begin"
            ),
            // Without its source, which may show a part of a step's result.
            other => tracing::error!(error = %other, "a step did not run"),
        }
    }
}
