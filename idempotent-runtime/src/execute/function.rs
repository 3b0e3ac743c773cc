//! A plain function under the attribute: where its expansion meets [`Idempotency::execute`].

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::{AttemptUse, observed, of_inputs};
use super::error::ExecuteError;
use crate::handle::{Idempotency, Inputs};
use crate::policy::Policy;

/// Runs the function under the policy, or gives its result from the record.
pub fn call<A, I, F, Fut>(
    idempotency: &Idempotency,
    policy: &Policy,
    name: &str,
    args: A,
    inputs: I,
    function: F,
) -> impl Future<Output = Fut::Output> + Send
where
    A: Send + 'static,
    I: FnOnce(&Idempotency, &A) -> Inputs,
    F: FnOnce(Idempotency, A) -> Fut + Send + 'static,
    Fut: Future<Output: Fallible> + Send + 'static,
    <Fut::Output as Fallible>::Value: Storable,
    <Fut::Output as Fallible>::Error: FromExecuteError + Send + 'static,
{
    let intent = of_inputs(idempotency, policy, name, inputs(idempotency, &args));
    let observed = observed(idempotency, policy, name);
    let handle = idempotency.clone();
    let function = |_| async { function(handle, args).await.into_result() };
    let performed =
        idempotency
            .clone()
            .perform(*policy, AttemptUse::Ignored, observed, intent, function);
    async {
        let result = performed.await.and_then(|execution| {
            let result = execution.into_result();
            result.map_err(FromExecuteError::from_execute_error)
        });
        Fallible::from_result(result)
    }
}

/// A `Result`.
#[diagnostic::on_unimplemented(
    message = "an idempotent function returns a `Result`, and `{Self}` is not one",
    label = "not a `Result`",
    note = "what it returns as `Ok` is stored; an `Err` says that nothing happened, and frees the key"
)]
pub trait Fallible {
    /// What is stored.
    type Value;
    /// What says that nothing happened.
    type Error;

    /// The `Result` that it is.
    #[expect(clippy::missing_errors_doc, reason = "it does nothing")]
    fn into_result(self) -> Result<Self::Value, Self::Error>;

    /// The way back.
    fn from_result(result: Result<Self::Value, Self::Error>) -> Self;
}

impl<T, E> Fallible for Result<T, E> {
    type Value = T;
    type Error = E;

    fn into_result(self) -> Self {
        self
    }

    fn from_result(result: Self) -> Self {
        result
    }
}

/// A result that can be stored.
#[diagnostic::on_unimplemented(
    message = "the result `{Self}` cannot be stored and read back",
    label = "not `Serialize` and `DeserializeOwned`",
    note = "derive both for `{Self}`: a retry with the key gets what was stored"
)]
pub trait Storable: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Storable for T {}

/// An error type that can say why there is no result.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot say why an idempotent function has no result",
    label = "the error type is not `From<ExecuteError>`",
    note = "add an `impl From<idempotent_runtime::ExecuteError> for {Self}`: a duplicate of a running call, for one, is told so through it"
)]
pub trait FromExecuteError {
    /// The error that says so.
    fn from_execute_error(reason: ExecuteError) -> Self;
}

#[diagnostic::do_not_recommend]
impl<E: From<ExecuteError>> FromExecuteError for E {
    fn from_execute_error(reason: ExecuteError) -> Self {
        reason.into()
    }
}
