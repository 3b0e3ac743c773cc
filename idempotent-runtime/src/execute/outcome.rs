use std::time::Duration;

use super::error::{ExecuteError, ExecuteErrorKind};
use crate::handle::problem::ProblemCode;
use crate::observer::Outcome;

/// The outcome of an [`Idempotency::execute`](crate::Idempotency::execute).
///
/// Not every outcome is a success: use a `match`, or [`into_result`](Self::into_result).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it may not have been executed"]
pub enum Execution<T> {
    /// The function ran, and this is its result. Later calls get the same result.
    Executed(T),
    /// The function ran before, for the same key and input, and this was its result.
    Replayed(T),
    /// Another call with the key is running.
    InFlight {
        /// The time until that claim's lease ends unless it is renewed. The call may finish sooner.
        retry_after: Duration,
    },
    /// The key was used with different input. Nothing has run.
    Mismatch,
    /// An earlier call was interrupted, so it is unknown whether it took effect, and the policy is not to run the
    /// function again.
    OutcomeUnknown,
    /// The function ran before, and its result was not stored: the result was larger than
    /// [`Policy::max_response_bytes`](crate::Policy::max_response_bytes), or would not have read back as the same
    /// value, such as NaN.
    NotRetained,
}

impl<T> Execution<T> {
    /// What observers are told.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Executed(_) => Outcome::Stored,
            Self::Replayed(_) | Self::NotRetained => Outcome::Replayed,
            Self::InFlight { .. } => Outcome::Problem(ProblemCode::InFlight),
            Self::Mismatch => Outcome::Problem(ProblemCode::KeyReused),
            Self::OutcomeUnknown => Outcome::Problem(ProblemCode::OutcomeUnknown),
        }
    }

    /// The result, of this call or an earlier one; or why there is no result.
    ///
    /// # Errors
    ///
    /// [`ExecuteError`], whose kind has the same name as the outcome.
    pub fn into_result(self) -> Result<T, ExecuteError> {
        let kind = match self {
            Self::Executed(value) | Self::Replayed(value) => return Ok(value),
            Self::InFlight { retry_after } => {
                return Err(ExecuteError::new(ExecuteErrorKind::InFlight).retry_in(retry_after));
            }
            Self::Mismatch => ExecuteErrorKind::Mismatch,
            Self::OutcomeUnknown => ExecuteErrorKind::OutcomeUnknown,
            Self::NotRetained => ExecuteErrorKind::NotRetained,
        };
        Err(ExecuteError::new(kind))
    }
}
