//! Running a function and keeping its result.

use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ExecuteError;
use super::outcome::Execution;
use super::value;
use crate::engine::{Answer, ClaimGuard};
use crate::handle::Attempt;
use crate::observer::Outcome;
use crate::unwind::catch_unwind;

/// What a function has said, and whether that is what may be said.
pub(super) struct Ran<T, E> {
    own: Result<T, E>,
    answer: Answer,
}

/// Runs the function, stores its result, and only then says it.
///
/// Must run to its end, whatever becomes of the caller: see [`Detach`](crate::engine::Detach).
pub(super) async fn run<F, Fut, T, E>(
    mut held: Box<ClaimGuard>,
    limit: usize,
    function: F,
) -> Ran<T, E>
where
    F: FnOnce(Attempt) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    T: Serialize,
{
    let record = held.owner().key;
    let attempt = Attempt::default();
    attempt.begin(&mut held);
    held.begin();
    let run = async {
        let own = function(attempt).await;
        own.map(|own| (value::kept(&record, &own, limit), own))
    };
    match catch_unwind(run).await {
        Ok(Ok((kept, own))) => Ran {
            own: Ok(own),
            answer: held.store(Arc::new(kept)).await,
        },
        Ok(Err(error)) => Ran {
            own: Err(error),
            answer: held.withdraw().await,
        },
        Err(panic) => {
            tracing::error!(record = %held.owner().key, "function panicked; its key is abandoned");
            held.abandon().await;
            panic.resume()
        }
    }
}

impl<T: DeserializeOwned, E> Ran<T, E> {
    /// An attempt that has lost its claim answers from the record, never from its own result: all answers for a
    /// key are equal.
    pub(super) fn answer(self) -> Result<(Result<Execution<T>, E>, Outcome), ExecuteError> {
        Ok(match value::decided(self.answer)? {
            Continue(own) => (self.own.map(Execution::Executed), own.into()),
            Break(other) => {
                let outcome = other.outcome();
                (Ok(other), outcome)
            }
        })
    }
}
