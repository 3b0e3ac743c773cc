//! [`Attempt`]: what a handler knows and can do about its own run.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use http::Extensions;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::engine::{ClaimGuard, Labels, StepError, Steps};
use crate::key::{RecordKey, derived_key};

/// An extractor for a handler under `#[idempotent]`: the number of the attempt, and tools for running the handler again
/// safely.
///
/// Its values are known when the handler runs, not before. A custom extractor must extract the attempt from the
/// original request parts: clones of them count as another request, whose attempt [is not
/// protected](Self::is_protected).
///
/// ```
/// use idempotent_runtime::{Attempt, StepError, idempotent};
///
/// # struct Provider;
/// # impl Provider {
/// #     async fn charge(&self, _: &str) -> Result<u64, String> { Ok(1) }
/// #     async fn send_receipt(&self, _: u64) -> Result<(), String> { Ok(()) }
/// # }
/// # static PROVIDER: Provider = Provider;
/// #[idempotent(ttl_hours = 24, on_abandoned = "retry")]
/// async fn pay(attempt: Attempt) -> Result<String, StepError<String>> {
///     // Whichever attempt this is, the provider sees the same key, and charges once.
///     let key = attempt.derived_key("charge");
///     let charge = attempt.step("charge", PROVIDER.charge(&key)).await?;
///     // An attempt that comes after a crash in here knows the charge already.
///     attempt.step("receipt", PROVIDER.send_receipt(charge)).await?;
///     Ok(format!("charge {charge} by attempt {}", attempt.number()))
/// }
/// # axum::Router::<idempotent_runtime::Idempotency>::new().route("/", axum::routing::post(pay));
/// ```
#[derive(Clone, Default)]
pub struct Attempt(Arc<Cell>);

/// What becomes known of a request after its extensions were handed to the extractors.
#[derive(Debug, Default)]
struct Cell {
    run: OnceLock<Run>,
    /// What keys are derived from where there is no record key.
    seed: OnceLock<Seed>,
    labels: Labels,
}

/// The attempt of a request, among its extensions. A copy of these is of another request, which has an attempt of its own:
/// two that shared one would have one key for two charges.
#[derive(Default)]
struct OfRequest(Attempt);

impl Clone for OfRequest {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// How the handler runs.
#[derive(Debug)]
enum Run {
    /// Not protected at all, as it is before it begins.
    Unprotected,
    Claimed(Claimed),
    /// The record is written when the handler is done, together with what it writes.
    InTransaction {
        record: RecordKey,
        since: Instant,
    },
    /// The store was unavailable, so there is no claim, but the key is known.
    Degraded {
        record: RecordKey,
    },
}

#[derive(Debug)]
struct Claimed {
    record: RecordKey,
    number: u32,
    age: Duration,
    since: Instant,
    steps: Steps,
}

struct Seed([u8; 32]);

impl Attempt {
    /// 1 for the first attempt of a key, plus one for each earlier attempt that crashed or could not read the finished
    /// steps. Always 1 in a transaction, which leaves nothing behind when it crashes, and in a run that [is not
    /// protected](Self::is_protected).
    #[must_use]
    pub fn number(&self) -> u32 {
        match self.0.run.get() {
            Some(Run::Claimed(claimed)) => claimed.number,
            Some(Run::Unprotected | Run::InTransaction { .. } | Run::Degraded { .. }) | None => 1,
        }
    }

    /// The time since the first attempt of this key began.
    #[must_use]
    pub fn age(&self) -> Duration {
        match self.0.run.get() {
            Some(Run::Claimed(claimed)) => claimed.age + claimed.since.elapsed(),
            Some(Run::InTransaction { since, .. }) => since.elapsed(),
            Some(Run::Unprotected | Run::Degraded { .. }) | None => Duration::ZERO,
        }
    }

    /// The record key. Write it beside the effect, so that a recovery function can find the effect by it. `None` if the
    /// run [is not protected](Self::is_protected).
    #[must_use]
    pub fn record_key(&self) -> Option<RecordKey> {
        match self.0.run.get()? {
            Run::Claimed(claimed) => Some(claimed.record),
            Run::InTransaction { record, .. } => Some(*record),
            Run::Unprotected | Run::Degraded { .. } => None,
        }
    }

    /// Whether a record protects this run. It does not if the request has no key (`required = false`), if its method is
    /// safe, or if the store is unavailable and [`FailOpen`](crate::OnStoreFailure::FailOpen) is set.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.record_key().is_some()
    }

    /// A key for an effect in another service, such as the `Idempotency-Key` for a payment provider's API: **the same
    /// on every attempt**, and different for each label and each record.
    ///
    /// This makes `on_abandoned = "retry"` safe for such an effect: whether an attempt crashed before or after it
    /// reached the provider, the next one sends the same key, and the provider carries out the effect once. Providers
    /// forget keys too (Stripe after 24 hours at the earliest): the provider should remember a key for at least as long
    /// as its record lives. If the other service is protected by this crate, it may answer that it is not done yet: see
    /// [what to do then](crate::which_guarantee#another-protected-service).
    ///
    /// The key has 64 hexadecimal digits: HMAC-SHA-256, with the 32 bytes of the [record key] as its key, of the byte
    /// 1, the domain `idempotent derived key` and the label. Domain and label are in UTF-8, each after its length in
    /// bytes as a little-endian `u64`. The record key is made of namespace, operation, scope and the client's key (and
    /// the secret, if there is one): if one of these changes, the derived keys change.
    ///
    /// If the request has no key, each try is an intent of its own: the derived key is made from random bytes that are
    /// drawn once per request. If the request has a key but runs unprotected because the store is unavailable, the
    /// derived key is the same as with a claim.
    ///
    /// [record key]: crate::RecordKey
    #[must_use]
    pub fn derived_key(&self, label: &str) -> String {
        match self.0.run.get() {
            Some(Run::Claimed(Claimed { record, .. }))
            | Some(Run::InTransaction { record, .. } | Run::Degraded { record }) => {
                derived_key(record.as_bytes(), label)
            }
            Some(Run::Unprotected) | None => {
                derived_key(&self.0.seed.get_or_init(Seed::draw).0, label)
            }
        }
    }

    /// Runs a step of the handler. If an earlier attempt finished this step, its stored result is returned and the
    /// future is dropped without being polled.
    ///
    /// For a handler with several effects that may be interrupted between them. Use it with `on_abandoned = "retry"` or
    /// a recovery function. The result of a step that succeeds is stored in the record. When the request is retried
    /// after a crash, a new attempt runs the handler from the beginning, and finished steps return their stored
    /// results. Results are stored as JSON, until the record is completed.
    ///
    /// * **A step is at least once.** Its effect comes before its result is stored, and a crash may come between the
    ///   two. Send a [`derived_key`](Self::derived_key) with it, or make the effect idempotent in another way. A step
    ///   whose result was stored is never run again.
    /// * **A step that fails is not stored**: its error is returned, and the label is free to be tried
    ///   again.
    /// * **Every step needs a label of its own**, also in a loop (`&format!("line {n}")`), and the same label on every
    ///   attempt: do not make labels from a clock, a random source or an order that changes. Labels may appear in logs,
    ///   so keep secrets out of them.
    /// * **A stored result of another type is an error, never a second run.** The name of the type is stored (without
    ///   module paths), and the JSON must be readable as that type. To rename or change the type of a step while keys
    ///   are alive, give the step a new label, knowing that it runs again.
    /// * Steps may run concurrently (`join!`).
    /// * **Steps belong in the handler, not in a body that it streams.** The record is completed when the body exceeds
    ///   `max_response_bytes` or has produced its announced length. Later steps in the body are refused
    ///   ([`StepError::Lost`]), and no retry runs them.
    /// * If the store is unavailable when a step is done, the handler still gets the result, since the effect cannot be
    ///   undone. A warning is logged, and the next step's save includes this result.
    /// * A record has room for 1 MiB of results. If a result does not fit (or does not serialize), it is returned, and
    ///   the record only says that the step was finished: a later attempt gets an error and does not run the step
    ///   again. If there is no room even for that, the step does not begin.
    /// * A finished step means that something happened. A step that was dropped midway, or refused because the store
    ///   did not confirm that it may begin, means that something may have happened. In both cases an error response
    ///   that is not stored (`replay_errors`, [`StepError`]) leaves the key abandoned, not free; with `on_abandoned =
    ///   "retry"` the client's retry continues after the last finished step. [`Release`](crate::Release) still means
    ///   that nothing happened: the key is free, and the steps are forgotten.
    ///
    /// In a run that is not protected, the future just runs.
    ///
    /// # Errors
    ///
    /// [`StepError::Step`] has the step's own error. All other variants say why the step could not run or return its
    /// result; in most cases nothing was run. [`StepError`] says how `?` handles them.
    pub async fn step<T, E>(
        &self,
        label: &str,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StepError<E>>
    where
        T: Serialize + DeserializeOwned,
    {
        let Some(label) = self.0.labels.take(label) else {
            return Err(StepError::Repeated(label.to_owned()));
        };
        match self.0.run.get() {
            Some(Run::Claimed(claimed)) => claimed.steps.step(label, step).await,
            Some(Run::InTransaction { .. }) => Err(StepError::InTransaction),
            Some(Run::Unprotected | Run::Degraded { .. }) | None => {
                let result = step.await.map_err(StepError::Step)?;
                label.finish();
                Ok(result)
            }
        }
    }

    /// The one of this request: the same wherever in its arguments a handler asks for it.
    pub(crate) fn of(extensions: &mut Extensions) -> Self {
        if let Some(attempt) = Self::asked_for(extensions) {
            return attempt;
        }
        let attempt = Self::default();
        extensions.insert(OfRequest(attempt.clone()));
        attempt
    }

    /// The one of this request, if an argument has asked for it. One that runs came with the request, from a handler
    /// that has passed its own on to this one.
    pub(crate) fn asked_for(extensions: &Extensions) -> Option<Self> {
        let OfRequest(attempt) = extensions.get()?;
        attempt.0.run.get().is_none().then(|| attempt.clone())
    }

    /// The handler is about to run, under this claim, which is [identified](ClaimGuard::identified).
    pub(crate) fn begin(&self, held: &mut ClaimGuard) {
        self.begin_run(Run::Claimed(Claimed {
            record: held.steps().identity(),
            number: held.attempt_of_request(),
            age: held.age_when_claimed(),
            since: held.claimed_at(),
            steps: held.steps().clone(),
        }));
    }

    /// The handler is about to run, in a transaction with this record: it keeps no steps.
    pub(crate) fn begin_in_transaction(&self, record: RecordKey) {
        let since = Instant::now();
        self.begin_run(Run::InTransaction { record, since });
    }

    /// The handler is about to run, and needs no protection.
    pub(crate) fn begin_unprotected(&self) {
        self.begin_run(Run::Unprotected);
    }

    /// The handler is about to run, without the claim that it should have.
    pub(crate) fn begin_degraded(&self, record: RecordKey) {
        self.begin_run(Run::Degraded { record });
    }

    fn begin_run(&self, run: Run) {
        // A request runs once, so this is the first time.
        let _ = self.0.run.set(run);
    }
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt")
            .field("number", &self.number())
            .field("is_protected", &self.is_protected())
            .finish_non_exhaustive()
    }
}

impl Seed {
    fn draw() -> Self {
        let mut bytes = [0; 32];
        if getrandom::fill(&mut bytes).is_err() {
            // No secrets depend on a seed, but another request must have another one: the standard
            // library's hashers are seeded, each differently, and the clock is added to it.
            for chunk in bytes.chunks_mut(8) {
                let word = RandomState::new().hash_one(SystemTime::now()).to_le_bytes();
                chunk.copy_from_slice(&word);
            }
        }
        Self(bytes)
    }
}

/// Never the seed: derived keys are made of it.
impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

#[cfg(test)]
mod tests;
