//! Functions without HTTP: messages of a queue, jobs, gRPC.
//!
//! A second user of the engine, beside `http`. It claims by the same record keys and leaves in the
//! record a value instead of a response. It knows no request: what `http` reads off one, it is told.

use self::call::AttemptUse;
use serde::Serialize;
use serde::de::DeserializeOwned;

use std::ops::ControlFlow::{Break, Continue};

use crate::engine::{Detach, Fingerprints, Intent, OldKey, Refusal, look_up_old};
use crate::handle::{Attempt, Idempotency};
use crate::observer::{ObservedCall, Outcome};
use crate::policy::Policy;
use crate::store::Claim;

mod call;
mod error;
mod function;
mod outcome;
mod run;
mod value;

pub use error::{ExecuteError, ExecuteErrorKind};
pub use function::{Fallible, FromExecuteError, Storable, call};
pub use outcome::Execution;

impl Idempotency {
    /// Runs a function at most once per key, and gives its result to every later call with the key: `#[idempotent]` for
    /// everything that is not HTTP.
    ///
    /// A queue delivers *at least once*: a message is redelivered if its acknowledgement was lost. The id of the
    /// message is the key, and its content is the input.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use idempotent_runtime::{ExecuteError, Execution, Idempotency, Policy};
    /// use serde::{Deserialize, Serialize};
    ///
    /// static SETTLE: Policy = Policy::new().ttl(Duration::from_hours(72));
    ///
    /// #[derive(Clone, Serialize)]
    /// struct Order { tenant: u32, amount: u64 }
    ///
    /// #[derive(Debug, PartialEq, Serialize, Deserialize)]
    /// struct Receipt { amount: u64 }
    ///
    /// #[derive(Debug)]
    /// enum SettleError {
    ///     /// Nothing happened, and the key is free.
    ///     Unreachable,
    ///     NotExecuted(ExecuteError),
    /// }
    ///
    /// impl From<ExecuteError> for SettleError {
    ///     fn from(error: ExecuteError) -> Self {
    ///         Self::NotExecuted(error)
    ///     }
    /// }
    ///
    /// # async fn charge(order: Order) -> Result<Receipt, SettleError> {
    /// #     Ok(Receipt { amount: order.amount })
    /// # }
    /// async fn receive(
    ///     idempotency: &Idempotency,
    ///     message_id: &str,
    ///     order: &Order,
    /// ) -> Result<Execution<Receipt>, SettleError> {
    ///     let owned = order.clone();
    ///     idempotency
    ///         .execute(&SETTLE, "orders.settle", order.tenant, message_id, order, move || charge(owned))
    ///         .await
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), SettleError> {
    /// # let idempotency = Idempotency::connect("memory:").await.unwrap();
    /// let order = Order { tenant: 7, amount: 1000 };
    /// let first = receive(&idempotency, "message 1", &order).await?;
    /// assert_eq!(first, Execution::Executed(Receipt { amount: 1000 }));
    /// let again = receive(&idempotency, "message 1", &order).await?;
    /// assert_eq!(again, Execution::Replayed(Receipt { amount: 1000 }));
    /// let other = receive(&idempotency, "message 1", &Order { amount: 2000, ..order }).await?;
    /// assert_eq!(other, Execution::Mismatch);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # What identifies an execution
    ///
    /// * `operation`: any text, the same on every instance and in every release; [`Policy::name`] replaces it if it is
    ///   set.
    /// * `scope`: the tenant or user that the key belongs to, any `Serialize` value; `()` or `None` if there is only
    ///   one scope. The scope of the [`IdempotencyBuilder`](crate::IdempotencyBuilder) is computed from requests and
    ///   does not apply here.
    /// * `key`: any text of 1 to 255 bytes.
    /// * `input`: what must be equal when the key is used again, compared as canonical JSON.
    ///
    /// Scope and input are compared as values: the order of a map or a `HashSet` does not count, nor how a number is
    /// written. A value that shares its JSON with another value is refused before anything runs
    /// ([`UnusableInput`](ExecuteErrorKind::UnusableInput)): a float that is not finite (NaN and infinity would be
    /// `null`), or a `Some` that serializes as `null` (`Some(())` would be `None`). Nesting deeper than 127 levels is
    /// refused too, and so are sets of other crates that serialize as a list in arbitrary order. The crate cannot see
    /// one case: a `HashSet` that was turned into a list before, such as in a `serde_json::Value`, or in a variant of
    /// an enum within an internally tagged enum. Use a `BTreeSet` there.
    ///
    /// On a plain function, [`#[idempotent]`](macro@crate::idempotent) calls this method: the operation is its
    /// `name`, the key is the JSON of its `key = expr` (a string keeps its quotes), the input is its
    /// `fingerprint = expr` or the tuple of its arguments.
    ///
    /// Record keys are shared with HTTP: a handler with the same operation, scope and key has the same record. But a
    /// request never has the input of a function, so each is a [`Mismatch`](Execution::Mismatch) to the other.
    ///
    /// # What is stored
    ///
    /// * **`Ok`** is stored as JSON, and only then returned. A replay reads back the same value, floats to the last
    ///   bit. A value larger than [`Policy::max_response_bytes`], or one that would not read back as the same value
    ///   (see [`StoredResponse::of_value`](crate::StoredResponse::of_value)), is returned but not stored, and an error
    ///   is logged: later calls get [`NotRetained`](Execution::NotRetained), and the function never runs again.
    /// * **`Err`** says that *nothing happened*: it is returned, nothing is stored, and the key is free. Return `Ok`
    ///   for everything that did happen, including a final refusal (`Ok(Verdict::Declined)`). In two cases an `Err`
    ///   does not free the key, which is then abandoned: in an attempt after a crash, because it says nothing about the
    ///   attempt that crashed; and after a finished [step](Attempt::step), because the step has happened.
    /// * **A panic** leaves the outcome unknown, so the key is abandoned at once, and the panic continues in the
    ///   caller. [`Policy::on_abandoned`] says what happens to the key. A recovery function returns a result with
    ///   [`StoredResponse::of_value`](crate::StoredResponse::of_value).
    ///
    /// TTL, lease, waiting for a duplicate and shutting down are as for handlers. The key header, [`Policy::required`],
    /// [`Policy::fingerprint`] and [`Policy::replay_errors`] have no effect here. While the store is unavailable
    /// nothing runs, whatever [`OnStoreFailure`](crate::OnStoreFailure) says.
    ///
    /// # When the caller is dropped
    ///
    /// A dropped future (a timeout, a `select!`) does not stop a function that has begun: the rest moves to a task, and
    /// the result is stored. That is why the function must own its data. If the function has not begun, dropping the
    /// future leaves nothing behind.
    ///
    /// # Errors
    ///
    /// The function's own error, or an [`ExecuteError`] converted to it. Nothing has run if the key is invalid, if the
    /// input or the scope is unusable, if the store is unavailable or if this instance is shutting down. If the record
    /// has no result of type `T`, nothing has run *again*.
    ///
    /// If the claim was lost while the function ran, the caller gets the result in the record, not the function's own
    /// `Ok` or `Err`: all results for a key are equal.
    ///
    /// # Panics
    ///
    /// If the function does.
    pub fn execute<S, I, F, Fut, T, E>(
        &self,
        policy: &Policy,
        operation: &str,
        scope: S,
        key: &str,
        input: &I,
        function: F,
    ) -> impl Future<Output = Result<Execution<T>, E>> + Send + use<S, I, F, Fut, T, E>
    where
        S: Serialize,
        I: Serialize + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: From<ExecuteError> + Send + 'static,
    {
        self.execute_using(
            AttemptUse::Ignored,
            policy,
            operation,
            (scope, key, input),
            |_| function(),
        )
    }

    /// Like [`execute`](Self::execute), for a function that takes its [`Attempt`].
    ///
    /// ```
    /// # use idempotent_runtime::{ExecuteError, Idempotency, OnAbandoned, Policy};
    /// static SYNC: Policy = Policy::new().on_abandoned(OnAbandoned::Retry);
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let idempotency = Idempotency::connect("memory:").await?;
    /// let night = "2026-01-31";
    /// let done = idempotency.execute_attempt(&SYNC, "sync", (), night, night, async |attempt| {
    ///     if attempt.number() > 1 {
    ///         // An earlier attempt crashed: look what it has done before doing it again.
    ///     }
    ///     Ok::<_, ExecuteError>(attempt.number())
    /// });
    /// assert_eq!(done.await?.into_result()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    ///
    /// # Panics
    ///
    /// If the function does.
    pub fn execute_attempt<S, I, F, Fut, T, E>(
        &self,
        policy: &Policy,
        operation: &str,
        scope: S,
        key: &str,
        input: &I,
        function: F,
    ) -> impl Future<Output = Result<Execution<T>, E>> + Send + use<S, I, F, Fut, T, E>
    where
        S: Serialize,
        I: Serialize + ?Sized,
        F: FnOnce(Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: From<ExecuteError> + Send + 'static,
    {
        let attempt = AttemptUse::Asked;
        self.execute_using(attempt, policy, operation, (scope, key, input), function)
    }

    fn execute_using<S, I, F, Fut, T, E>(
        &self,
        attempt: AttemptUse,
        policy: &Policy,
        operation: &str,
        (scope, key, input): (S, &str, &I),
        function: F,
    ) -> impl Future<Output = Result<Execution<T>, E>> + Send + use<S, I, F, Fut, T, E>
    where
        S: Serialize,
        I: Serialize + ?Sized,
        F: FnOnce(Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: From<ExecuteError> + Send + 'static,
    {
        // Not in the future, which would otherwise borrow what it is told.
        let intent = call::of_call(self, policy, operation, &scope, key, input);
        let observed = call::observed(self, policy, operation);
        let handle = self.clone();
        handle.perform(*policy, attempt, observed, intent, function)
    }

    /// Claims, runs, stores; or says what the record says.
    async fn perform<F, Fut, T, E>(
        self,
        policy: Policy,
        attempt: AttemptUse,
        observed: Option<ObservedCall>,
        intent: Result<Intent, ExecuteError>,
        function: F,
    ) -> Result<Execution<T>, E>
    where
        F: FnOnce(Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: FromExecuteError + Send + 'static,
    {
        let (result, outcome) = match self
            .perform_unobserved(policy, attempt, intent, function)
            .await
        {
            Ok((result, outcome)) => (result, outcome),
            Err(reason) => {
                let outcome = reason.kind().outcome();
                (Err(E::from_execute_error(reason)), outcome)
            }
        };
        if let Some(observed) = observed {
            observed.end(outcome);
        }
        result
    }

    async fn perform_unobserved<F, Fut, T, E>(
        self,
        policy: Policy,
        attempt: AttemptUse,
        intent: Result<Intent, ExecuteError>,
        function: F,
    ) -> Result<(Result<Execution<T>, E>, Outcome), ExecuteError>
    where
        F: FnOnce(Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Send + 'static,
    {
        let intent = intent?;
        let describe = |crashed| self.describe(&intent, crashed);
        let mut fingerprints = Fingerprints::only(intent.fingerprint);
        let engine = self.engine();
        let old = if intent.is_too_old(&policy) {
            let old = Box::pin(look_up_old(engine, &intent, &mut fingerprints));
            old.await
                .map_err(|error| ExecuteError::refused(error.into()))?
        } else {
            OldKey::Undecided
        };
        let claim = match old {
            OldKey::Completed(stored) => Claim::Completed(stored),
            OldKey::Expired => return Err(ExecuteError::refused(Refusal::KeyExpired)),
            OldKey::Undecided => {
                let entered = engine.enter(&intent, fingerprints, &policy, &describe);
                entered.await.map_err(ExecuteError::refused)?
            }
        };
        match value::decided(claim)? {
            Continue(mut held) => {
                if attempt == AttemptUse::Asked {
                    held = held.identified().await.map_err(ExecuteError::refused)?;
                }
                let run = run::run(held, policy.max_response_bytes, function);
                Detach::new(self.engine().tasks(), run).await.answer()
            }
            Break(execution) => {
                let outcome = execution.outcome();
                Ok((Ok(execution), outcome))
            }
        }
    }
}
