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
    /// Runs a function once for a key, and gives its result to every later call with the key:
    /// what `#[idempotent]` does for handlers, for everything that is not HTTP.
    ///
    /// A queue delivers *at least once*: a message is redelivered when its acknowledgement was lost. Its
    /// id is the key, and what it says is the input.
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
    /// # What names the execution
    ///
    /// * `operation`: any text, the same on every instance and in every release; [`Policy::name`]
    ///   takes its place if it is set.
    /// * `scope`: whose key it is, anything that serializes; `()` or `None` where there is one scope only. The scope
    ///   of the [`IdempotencyBuilder`](crate::IdempotencyBuilder) is read off requests, so it does not count here.
    /// * `key`: any text of 1 to 255 bytes.
    /// * `input`: what must be the same when the key is used again, as canonical JSON.
    ///
    /// Scope and input are compared as values: the order of a map or a `HashSet` does not count, nor
    /// how a number is written. What has no JSON of its own is refused before anything runs
    /// ([`UnusableInput`](ExecuteErrorKind::UnusableInput)): a float that is not finite (NaN and infinity
    /// would be `null`), a `Some` of what is `null` in JSON (`Some(())` would be `None`), nesting deeper
    /// than 127 levels, and sets of other crates that serialize as a list in no order. One case is not
    /// seen: a `HashSet` that a type has made into a list before it is serialized, such as in a
    /// `serde_json::Value`, or in a variant of an enum within an internally tagged enum. Use a
    /// `BTreeSet` there.
    ///
    /// On a plain function, [`#[idempotent]`](macro@crate::idempotent) calls this method: the operation is its
    /// `name`, the key is the JSON of its `key = expr` (a string keeps its quotes), the input is its
    /// `fingerprint = expr` or the tuple of its arguments.
    ///
    /// Namespace, operation, scope and key are one record key with those of HTTP: an operation of the
    /// same name there is the same operation. But no request has the input of a function, so the
    /// two are a [`Mismatch`](Execution::Mismatch) to each other.
    ///
    /// # What is kept
    ///
    /// * **`Ok`** is stored as JSON, and only then returned. A replay reads back the same value, floats
    ///   to the last bit. A value of more than [`Policy::max_response_bytes`], or that would not read
    ///   back as it is (see [`StoredResponse::of_value`](crate::StoredResponse::of_value)), is returned
    ///   and not kept, and an error is logged: later calls get
    ///   [`NotRetained`](Execution::NotRetained), and the function never runs again.
    /// * **`Err`** says that *nothing happened*: it is returned, nothing is stored, and the key is
    ///   free. Return `Ok` for everything that did happen, a refusal that is final included
    ///   (`Ok(Verdict::Declined)`). After a crash an `Err` does not free the key: it cannot speak for
    ///   the attempt that crashed, so the key is abandoned as it was. Nor does it after a
    ///   [step](Attempt::step) that was finished, for that has happened.
    /// * **A panic** says nothing, so the key is abandoned at once, and the panic goes on to the
    ///   caller. [`Policy::on_abandoned`] decides what becomes of the key. A recovery function answers
    ///   with [`StoredResponse::of_value`](crate::StoredResponse::of_value).
    ///
    /// TTL, lease, waiting for a duplicate and shutting down are as for handlers. Key header,
    /// [`Policy::required`], [`Policy::fingerprint`] and [`Policy::replay_errors`] mean nothing here.
    /// While the store is unavailable nothing runs, whatever [`OnStoreFailure`](crate::OnStoreFailure) says.
    ///
    /// # When the caller goes away
    ///
    /// A dropped future (a timeout, a `select!`) does not stop the function: what is left of it
    /// moves to a task, and its result is stored. That is why the function owns what it works with.
    /// Before it has begun, dropping the future leaves nothing behind.
    ///
    /// # Errors
    ///
    /// The function's own, or an [`ExecuteError`] by its `From`: that the key is invalid, that input or scope have
    /// no JSON of their own, that the store is unavailable or this instance is shutting down (in these cases this
    /// call has run nothing), or that the record has no result of type `T` (then nothing has run *again*).
    ///
    /// When the claim was lost while the function ran, the answer is the record's and never the
    /// function's own, be that `Ok` or `Err`: all answers for a key are equal.
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

    /// As [`execute`](Self::execute), for a function that wants to know which [`Attempt`] it is.
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
