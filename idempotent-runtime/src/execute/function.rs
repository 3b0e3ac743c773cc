//! A plain function under the attribute: where its expansion meets [`Idempotency::execute`].

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{ExecuteError, NoResult};
use super::identity::Identity;
use crate::http::{Idempotency, Inputs};
use crate::policy::Policy;

/// Runs the function under the policy, or gives its result from the record.
///
/// # Errors
///
/// The function's own, or why there is no result, in the function's own type.
pub fn call<A, I, F, Fut>(
    idempotency: &Idempotency,
    policy: &Policy,
    name: &str,
    args: A,
    inputs: I,
    function: F,
) -> impl Future<Output = Outcome<Fut::Output>> + Send
where
    A: Send + 'static,
    I: FnOnce(&Idempotency, &A) -> Inputs,
    F: FnOnce(Idempotency, A) -> Fut + Send + 'static,
    Fut: Future<Output: Fallible> + Send + 'static,
    <Fut::Output as Fallible>::Value: Serialize + DeserializeOwned + Send + 'static,
    <Fut::Output as Fallible>::Error: FromNoResult + Send + 'static,
{
    let identity = Identity::of_inputs(idempotency, policy, name, inputs(idempotency, &args));
    let handle = idempotency.clone();
    let function = |_| async { function(handle, args).await.into_result() };
    let performed = idempotency.perform(policy, identity, function);
    async {
        match performed.await {
            Ok(execution) => execution
                .into_result()
                .map_err(FromNoResult::from_no_result),
            Err(ExecuteError::Function(error)) => Err(error),
            Err(ExecuteError::NoResult(reason)) => Err(FromNoResult::from_no_result(reason)),
        }
    }
}

type Outcome<R> = Result<<R as Fallible>::Value, <R as Fallible>::Error>;

/// A `Result`.
#[diagnostic::on_unimplemented(
    message = "an idempotent function returns a `Result`, and `{Self}` is none",
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
}

impl<T, E> Fallible for Result<T, E> {
    type Value = T;
    type Error = E;

    fn into_result(self) -> Self {
        self
    }
}

/// An error type that can say why there is no result.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot say why an idempotent function has no result",
    label = "the error type is not `From<NoResult>`",
    note = "add an `impl From<idempotent_runtime::NoResult> for {Self}`: a duplicate of a running call, for one, is told so through it"
)]
pub trait FromNoResult {
    /// The error that says so.
    fn from_no_result(reason: NoResult) -> Self;
}

#[diagnostic::do_not_recommend]
impl<E: From<NoResult>> FromNoResult for E {
    fn from_no_result(reason: NoResult) -> Self {
        reason.into()
    }
}
