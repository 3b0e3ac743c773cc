//! What a handler can ask and say about its own run.

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

/// An extractor for a handler under `#[idempotent]`: which attempt this is, and what the handler
/// needs to be tried again safely.
///
/// Its values are known once the handler runs. A custom extractor must request it from the request's own parts:
/// cloned parts belong to another request, whose attempt [is not protected](Self::is_protected).
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
    /// 1 for the first attempt of a key, and one more for each that crashed before it, or could not read what those before it
    /// had finished. Also 1 in a
    /// transaction, which leaves nothing behind when it crashes, and where nothing is protected, see
    /// [`is_protected`](Self::is_protected).
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

    /// The key of this run's record, to be written beside the effect: a recovery function finds the
    /// effect by it. `None` where nothing is protected, see [`is_protected`](Self::is_protected).
    #[must_use]
    pub fn record_key(&self) -> Option<RecordKey> {
        match self.0.run.get()? {
            Run::Claimed(claimed) => Some(claimed.record),
            Run::InTransaction { record, .. } => Some(*record),
            Run::Unprotected | Run::Degraded { .. } => None,
        }
    }

    /// Whether this run is protected by a record. It is not if the request has no key (`required = false`), its
    /// method is safe, or the store is unavailable and [`FailOpen`](crate::OnStoreFailure::FailOpen) is set.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.record_key().is_some()
    }

    /// A key for an effect in another service, such as the `Idempotency-Key` of a payment
    /// provider's API: **the same on every attempt**, another one for each label and each record.
    ///
    /// It is what makes `on_abandoned = "retry"` safe for such an effect: whether an attempt crashed
    /// before or after the provider was reached, the next one sends the same key, and the provider
    /// does it once. A provider's memory ends too (Stripe's after 24 hours at the earliest): it should
    /// be at least as long as the record's life. A service that is protected by this crate may also answer that it is
    /// not done yet: [what to do then](crate::which_guarantee#another-protected-service).
    ///
    /// 64 hexadecimal digits: HMAC-SHA-256, keyed by the 32 bytes of the [record key], over the byte 1,
    /// the domain `idempotent derived key` and the label, both in UTF-8 and behind their length in
    /// bytes as a little-endian `u64`. A record key is made of namespace, operation, scope and the
    /// client's key (and the secret, if there is one): changing one of these changes the derived keys.
    ///
    /// Where the request has no key, nothing can be the same on every attempt: the key is then
    /// derived from random bytes, drawn once for each request, so that each request is an intent of
    /// its own. One that has a key, but runs unprotected because the store is unavailable, has the key
    /// that it would have with its claim.
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
    /// For a handler that has several effects and may be interrupted between them (use it with
    /// `on_abandoned = "retry"`, or a recovery function). The result of a step that succeeds is stored
    /// in the record. When the request is retried after a crash, a new attempt runs the handler from the
    /// beginning, and finished steps return their stored results. Results are stored as JSON, until the
    /// record is completed.
    ///
    /// * **A step is at least once.** Its effect comes before its result is stored, and a crash may come
    ///   between the two. Send a [`derived_key`](Self::derived_key) along, or make the effect
    ///   idempotent in another way. A step whose result was stored is never run again.
    /// * **A step that fails is not stored**: its error is returned, and the label is free to be tried
    ///   again.
    /// * **Every step needs a label of its own**, also in a loop (`&format!("line {n}")`), and the same
    ///   one on every attempt: not from a clock or a random source, nor in an order that changes.
    ///   Labels may appear in logs: they should hold no secrets.
    /// * **A result of another type is an error and never a second run.** The type's name is stored (without
    ///   the paths of modules), and the JSON must be readable. To rename or change the
    ///   type of a step while keys are alive, give the step a new label, knowing that it runs again.
    /// * Steps may run concurrently (`join!`).
    /// * **Steps belong in the handler, not in a body that it streams.** A body that is over `max_response_bytes`, or that goes
    ///   on after the record was completed (it has produced the length that it announced), ends the claim: later steps in it
    ///   are refused ([`StepError::Lost`]), the record says that the request was carried out, and no retry runs them.
    /// * If the store is unavailable when a step is done, the handler gets its result all the same, since the
    ///   effect cannot be undone; a warning is logged, and the next step's save carries it too.
    /// * There is room for 1 MiB in a record. A result that does not fit (or does not serialize) is
    ///   returned, but not stored; that the step was finished is stored, so a later attempt gets an error
    ///   and does not run it again. When there is no room even for that, a step does not begin.
    /// * A finished step means that something happened. A step that was dropped midway, or refused because the store did
    ///   not say whether it may begin, means that something may have. In either case an error response that is not stored
    ///   (`replay_errors`, [`StepError`]) leaves the key abandoned, not free; with `on_abandoned = "retry"` the client's
    ///   retry continues after the last finished step.
    ///   [`Release`](crate::Release) still means that nothing happened: the key is free, and the steps are forgotten.
    ///
    /// Where nothing is protected, the future just runs.
    ///
    /// # Errors
    ///
    /// [`StepError::Step`] with the step's own error. All others say that something stands in the way;
    /// in most cases nothing was run. See [`StepError`] for how `?` deals with them.
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
