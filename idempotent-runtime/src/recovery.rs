//! Recovery: what becomes of a key whose attempt crashed, when the application can find out.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::key::{Key, RecordKey};
use crate::record::progress::FinishedSteps;
use crate::record::{StoredResponse, UnusableStep};

/// A crashed attempt, as a recovery function sees it.
///
/// It carries what is needed to look for the effect where it happens: the record's key, and what the
/// application has given to [`IdempotencyBuilder::extension`](crate::IdempotencyBuilder::extension), such as a database
/// pool.
///
/// **Look by [`record_key`](Self::record_key), never by the client's key alone**: two tenants may send
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
/// /// `Idempotency::builder(store).extension(charges)` has made the table known.
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
/// Of a handler that works in [steps](crate::Attempt::step) it also knows how far it got:
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
/// /// What was charged must be finished; a request that got nowhere may be left alone.
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

/// What a recovery function has found out.
///
/// It may be asked by several duplicates at once, so it must only look, not act. Whatever it says
/// is applied only if the attempt it was asked about is still the latest.
#[derive(Debug)]
#[non_exhaustive]
pub enum Recovery {
    /// The effect happened, and this is its answer: it is stored and replayed from now on.
    Replay(StoredResponse),
    /// The effect did not happen, or not all of it. From a recovery function: run the handler, as the
    /// next attempt, to which finished steps give what they gave before. From an operator
    /// ([`Idempotency::resolve`](crate::Idempotency::resolve)): free the key, **and forget its steps**.
    Retry,
    /// Nobody knows (yet): 409 `outcome-unknown`, and the record stays as it is.
    Unknown,
}

impl Abandoned {
    /// The client's key, which another scope may have used too. Treat it as a secret: it must not
    /// reach a log.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The record's key: what [`Attempt::record_key`](crate::Attempt::record_key) told the crashed
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

    /// Whose key it is, as canonical JSON; `None` without a scope, and in nobody's (`scope = None`).
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

    /// The result of a step that was finished; `None` if it was not, or at least was not known to be
    /// when its process died: a step's effect comes before its result is kept.
    ///
    /// # Errors
    ///
    /// [`UnusableStep`] when it was finished, but its result is of another type or could not be kept.
    pub fn step<T: DeserializeOwned>(&self, label: &str) -> Result<Option<T>, UnusableStep> {
        self.steps.result(label)
    }

    /// The labels of the steps that were finished, in order.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.steps.labels()
    }

    /// What the application has given to [`IdempotencyBuilder::extension`](crate::IdempotencyBuilder::extension).
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
