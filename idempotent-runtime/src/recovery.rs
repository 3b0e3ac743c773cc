//! Recovery: the application finds out what a crashed attempt did, and decides about its key.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::key::{Key, RecordKey};
use crate::record::progress::FinishedSteps;
use crate::record::{StoredResponse, UnusableStep};

/// A crashed attempt, as a recovery function sees it.
///
/// The function looks up the effect by the record key, with the values that the application has passed to
/// [`IdempotencyBuilder::extension`](crate::IdempotencyBuilder::extension), such as a database pool.
///
/// **Look up by [`record_key`](Self::record_key), never by the client's key alone**: two tenants may send
/// the same key, and the record key is made of operation, scope and key together. A handler gets it
/// from [`Attempt::record_key`](crate::Attempt::record_key) and writes it beside its effect:
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex};
///
/// use axum::extract::State;
/// use http::{HeaderMap, StatusCode};
/// use idempotent_runtime::{Abandoned, Attempt, Recovery, StoredResponse, idempotent};
///
/// /// The application's own table of charges.
/// #[derive(Clone, Default)]
/// struct Charges(Arc<Mutex<HashMap<String, String>>>);
///
/// #[idempotent(ttl_hours = 24, on_abandoned = look)]
/// async fn pay(attempt: Attempt, State(charges): State<Charges>) -> (StatusCode, String) {
///     let charge = "charge 1".to_owned();
///     if let Some(record) = attempt.record_key() {
///         charges.0.lock().unwrap().insert(record.to_hex(), charge.clone());
///     }
///     (StatusCode::CREATED, charge)
/// }
///
/// /// `Idempotency::builder(store).extension(charges)` provides the table.
/// async fn look(abandoned: Abandoned) -> Recovery {
///     let Some(charges) = abandoned.extension::<Charges>() else { return Recovery::Unknown };
///     match charges.0.lock().unwrap().get(&abandoned.record_key().to_hex()) {
///         Some(charge) => Recovery::Replay(StoredResponse::new(
///             StatusCode::CREATED,
///             HeaderMap::new(),
///             charge.clone(),
///         )),
///         None => Recovery::Retry,
///     }
/// }
/// ```
///
/// **It must only look, not act.** In one process ([`Idempotency`](crate::Idempotency)) at most one call of the
/// function runs per record, but several processes may call it at the same time. After [`Recovery::Unknown`] or a panic
/// it is called again. While it runs, other requests with the key are in flight in that process: they get 409
/// `in-flight`, or wait if the policy says so. The function runs to its end even if the client disconnects, and does
/// not count for [`max_background_handlers`](crate::IdempotencyBuilder::max_background_handlers). Its result is stored
/// even if the store has lost the record meanwhile; but if an attempt completes first, that response stands. Give the
/// look-up a timeout: while the function hangs, the key is in flight in that process.
///
/// If the handler works in [steps](crate::Attempt::step), `Abandoned` also knows which steps were finished:
///
/// ```
/// use idempotent_runtime::{Abandoned, Attempt, Recovery, StepError, idempotent};
///
/// #[idempotent(ttl_hours = 24, on_abandoned = go_on)]
/// async fn pay(attempt: Attempt) -> Result<String, StepError<String>> {
///     let charge: u64 = attempt.step("charge", async { Ok(1) }).await?;
///     attempt.step("receipt", async { Ok(()) }).await?;
///     Ok(format!("charge {charge}"))
/// }
///
/// /// A charged payment must be finished; a request that did nothing may be left alone.
/// async fn go_on(abandoned: Abandoned) -> Recovery {
///     match abandoned.step::<u64>("charge") {
///         Ok(Some(_charge)) => Recovery::Retry,
///         Ok(None) | Err(_) => Recovery::Unknown,
///     }
/// }
/// # axum::Router::<idempotent_runtime::Idempotency>::new().route("/", axum::routing::post(pay));
/// ```
///
/// To test a recovery function, give a [`MemoryStore`](crate::store::memory::MemoryStore) a
/// [`ManualClock`](crate::ManualClock) and move it past the lease while a handler runs.
pub struct Abandoned {
    pub(crate) key: Key,
    pub(crate) record: RecordKey,
    pub(crate) operation: String,
    pub(crate) scope: Option<Vec<u8>>,
    pub(crate) attempt: u32,
    pub(crate) age: Duration,
    pub(crate) steps: FinishedSteps,
    pub(crate) extensions: http::Extensions,
}

/// The result of a recovery function.
///
/// It is applied only if the attempt in question is still the latest.
#[derive(Debug)]
#[non_exhaustive]
pub enum Recovery {
    /// The effect took place, and this is its response, which is stored and replayed from now on.
    Replay(StoredResponse),
    /// The effect did not take place, or only partly. From a recovery function: run the handler as the next attempt, in
    /// which finished steps return their stored results. From an operator
    /// ([`Idempotency::resolve`](crate::Idempotency::resolve)): free the key **and discard its steps**. From a recovery
    /// function that an operator calls ([`Idempotency::resolve_with`](crate::Idempotency::resolve_with)): free the key,
    /// unless it has finished steps.
    Retry,
    /// It is not known (yet): 409 `outcome-unknown`, and the record stays as it is.
    Unknown,
}

impl Abandoned {
    /// The client's key, which may be in use in another scope too. Treat it as a secret: it must not
    /// reach a log.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The record key, as [`Attempt::record_key`](crate::Attempt::record_key) returned it to the crashed
    /// attempt.
    #[must_use]
    pub fn record_key(&self) -> RecordKey {
        self.record
    }

    /// The operation: the policy's name, or method and matched route without the names of its parameters
    /// (`POST /orders/{}/pay`).
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// The scope, as canonical JSON; `None` without a scope and with `scope = None`.
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.scope
            .as_deref()
            .filter(|scope| *scope != b"null")
            .and_then(|scope| std::str::from_utf8(scope).ok())
    }

    /// Which attempt crashed: 1, 2, ...
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The time since the record's first claim.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.age
    }

    /// The result of a finished step. `None` if the step was not finished, or its result was not stored
    /// when the process died: a step's result is stored after its effect.
    ///
    /// # Errors
    ///
    /// [`UnusableStep`] if the step was finished, but its result is of another type or could not be stored.
    pub fn step<T: DeserializeOwned>(&self, label: &str) -> Result<Option<T>, UnusableStep> {
        self.steps.result(label)
    }

    /// The labels of the finished steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.steps.labels()
    }

    /// A value that the application has passed to [`IdempotencyBuilder::extension`](crate::IdempotencyBuilder::extension).
    #[must_use]
    pub fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.extensions.get()
    }
}

impl fmt::Debug for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Abandoned")
            .field("record", &self.record)
            .field("operation", &self.operation)
            .field("attempt", &self.attempt)
            .field("age", &self.age)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}
