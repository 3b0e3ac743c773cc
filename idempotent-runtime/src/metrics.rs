//! Metrics of requests, claims and the store, on the [`metrics`] facade (feature `metrics`).
//!
//! ```
//! use idempotent_runtime::metrics::MetricsObserver;
//! use idempotent_runtime::{Idempotency, store::memory::MemoryStore};
//!
//! // After the exporter is installed, such as `metrics_exporter_prometheus::PrometheusBuilder::new().install()`:
//! let idempotency = Idempotency::builder(MemoryStore::new())
//!     .observer(MetricsObserver::new())
//!     .build();
//! # drop(idempotency);
//! ```
//!
//! `PrometheusBuilder` exports histograms as summaries unless you set buckets. The alert rules and the dashboard need
//! buckets: `.set_buckets_for_metric(Matcher::Full("idempotency_store_duration_seconds".to_owned()), &[0.0005, 0.001,
//! 0.005, 0.02, 0.1, 0.5, 2.0])?`, as in `examples/metrics.rs`.
//!
//! **Install the exporter first.** An observer asks the recorder for each metric once, when it is first needed. If
//! there is no recorder at that time, the metric never counts anything.
//!
//! | metric | | labels | |
//! | --- | --- | --- | --- |
//! | `idempotency_requests_total` | counter | `operation`, `outcome` | requests, by [outcome](Outcome) |
//! | `idempotency_in_flight` | gauge | `operation` | attempts of this process that hold a claim or a transaction |
//! | `idempotency_taken_over_total` | counter | `operation` | attempts that took over from an abandoned one |
//! | `idempotency_claims_lost_total` | counter | `operation` | claims that were lost while their handlers ran or their responses were being stored |
//! | `idempotency_attempts_abandoned_total` | counter | `operation` | attempts of this process that abandoned their key; a process that dies counts nothing |
//! | `idempotency_abandoned_records` | gauge | `operation` | abandoned records in the store, from any process, as of the last look |
//! | `idempotency_purged_abandoned_total` | counter | `operation` | abandoned records that were purged without a decision |
//! | `idempotency_store_duration_seconds` | histogram | `store`, `call`, `result` | store calls; the result is `ok` or a kind of error |
//! | `idempotency_lease_renewals_total` | counter | `result` | renewals: `renewed`, `late` (the lease had already ended), `lost`, `failed` |
//! | `idempotency_cache_hits_total` | counter | | replays without a store call |
//! | `idempotency_background_handlers` | gauge | | handlers that continue after their clients have disconnected |
//! | `idempotency_pending_responses` | gauge | | responses that the store has not accepted yet |
//! | `idempotency_pending_bytes` | gauge | | the memory of these responses, in bytes |
//!
//! The operation is the only label with values from the application; no label has a key, a scope or a record.
//! Operations beyond the first [`MetricsObserver::MAX_OPERATIONS`] are counted together as `(other)`.
//! `metrics/alerts.yml` and `metrics/dashboard.json` in the repository are alert rules for Prometheus and a dashboard
//! for Grafana.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use ::metrics::{Counter, Gauge, Histogram, Unit};

use self::slots::Slots;
use crate::handle::problem::ProblemCode;
use crate::observer::{Event, Observer, Outcome, StoreCall};
use crate::store::StoreErrorKind;

mod slots;

/// An [`Observer`] that counts on the `metrics` facade.
///
/// The recorder is asked for each metric once. After that nothing is allocated for an event, and a first request costs about 4 % more
/// instructions than without metrics (2,700 of 61,000, with the exporter for Prometheus).
#[derive(Default)]
pub struct MetricsObserver {
    operations: RwLock<HashMap<Box<str>, Operation, BuildHasherDefault<Fnv>>>,
    store: Slots<Histogram, { StoreCall::COUNT * (1 + StoreErrorKind::COUNT) }>,
    process: OnceLock<Process>,
    other: OnceLock<Operation>,
    /// Abandoned records of the operations that are counted together.
    other_abandoned: Mutex<HashMap<Box<str>, usize>>,
}

/// The metrics that are not an operation's.
struct Process {
    renewals: [Counter; RENEWAL_RESULTS.len()],
    cache_hits: Counter,
    background: Gauge,
    pending: Gauge,
    pending_bytes: Gauge,
}

/// The metrics of one operation.
struct Operation {
    name: Arc<str>,
    requests: Slots<Counter, { Outcome::COUNT }>,
    in_flight: Gauge,
    events: [Counter; EVENTS.len()],
    abandoned: Gauge,
}

/// What can happen to claims.
const EVENTS: [&str; 4] = [
    "idempotency_taken_over_total",
    "idempotency_claims_lost_total",
    "idempotency_attempts_abandoned_total",
    "idempotency_purged_abandoned_total",
];

const TAKEN_OVER: usize = 0;
const LOST: usize = 1;
const ABANDONED: usize = 2;
const PURGED: usize = 3;

const RENEWAL_RESULTS: [&str; 4] = ["renewed", "late", "lost", "failed"];

/// Outcomes that alert rules are about.
const ALERTING: [Outcome; 4] = [
    Outcome::Degraded,
    Outcome::Problem(ProblemCode::OutcomeUnknown),
    Outcome::Problem(ProblemCode::StoreUnavailable),
    Outcome::Problem(ProblemCode::KeyReused),
];

/// What is counted together once there are too many operations.
const OTHER: &str = "(other)";

/// FNV-1a. Names of operations are short, few, and the application's own: nothing can be made to collide.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl MetricsObserver {
    /// How many operations are told apart: 256.
    pub const MAX_OPERATIONS: usize = 256;

    /// One that counts with the recorder that is installed when something is first counted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Under a lock for reading, unless the operation is a new one.
    fn operation(&self, name: &str, use_it: impl FnOnce(&Operation)) {
        let operations = self.operations.read();
        let operations = operations.unwrap_or_else(PoisonError::into_inner);
        if let Some(operation) = operations.get(name) {
            return use_it(operation);
        }
        if operations.len() >= Self::MAX_OPERATIONS {
            return use_it(self.other.get_or_init(|| Operation::new(OTHER)));
        }
        drop(operations);
        // Those of the process are there from the first request on, at 0.
        self.process();
        let operations = self.operations.write();
        let mut operations = operations.unwrap_or_else(PoisonError::into_inner);
        let operation = operations.entry(name.into());
        use_it(operation.or_insert_with(|| Operation::new(name)));
    }

    fn process(&self) -> &Process {
        self.process.get_or_init(Process::new)
    }

    fn abandoned(&self, name: &str, records: usize) {
        self.operation(name, |operation| {
            let mut records = records;
            if &*operation.name == OTHER {
                let other = self.other_abandoned.lock();
                let mut other = other.unwrap_or_else(PoisonError::into_inner);
                match records {
                    0 => drop(other.remove(name)),
                    _ => drop(other.insert(name.into(), records)),
                }
                records = other.values().sum();
            }
            operation.abandoned.set(as_f64(records));
        });
    }

    fn happened(&self, operation: &str, event: usize) {
        self.operation(operation, |it| it.happened(event));
    }

    fn called(
        &self,
        store: &'static str,
        call: StoreCall,
        error: Option<StoreErrorKind>,
        elapsed: std::time::Duration,
    ) {
        let result = error.map_or(0, |error| 1 + error as usize);
        let index = call as usize * (1 + StoreErrorKind::COUNT) + result;
        let make = || {
            let result = error.map_or("ok", StoreErrorKind::as_str);
            describe();
            ::metrics::histogram!("idempotency_store_duration_seconds",
                "store" => store, "call" => call.as_str(), "result" => result)
        };
        self.store.with(index, make, |it| it.record(elapsed));
    }

    fn renewed(&self, results: [usize; RENEWAL_RESULTS.len()]) {
        for (counter, count) in self.process().renewals.iter().zip(results) {
            counter.increment(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }
}

impl Process {
    fn new() -> Self {
        describe();
        let process = Self {
            renewals: RENEWAL_RESULTS.map(
                |result| ::metrics::counter!("idempotency_lease_renewals_total", "result" => result),
            ),
            cache_hits: ::metrics::counter!("idempotency_cache_hits_total"),
            background: ::metrics::gauge!("idempotency_background_handlers"),
            pending: ::metrics::gauge!("idempotency_pending_responses"),
            pending_bytes: ::metrics::gauge!("idempotency_pending_bytes"),
        };
        process.cache_hits.increment(0);
        process.renewals.iter().for_each(|it| it.increment(0));
        for gauge in [
            &process.background,
            &process.pending,
            &process.pending_bytes,
        ] {
            gauge.increment(0.0);
        }
        process
    }
}

impl Operation {
    /// With all that alert rules are about: a counter whose first value is 1 has not risen, to a rule that sees it first.
    fn new(name: &str) -> Self {
        let name: Arc<str> = name.into();
        describe();
        let operation = Self {
            in_flight: ::metrics::gauge!("idempotency_in_flight", "operation" => Arc::clone(&name)),
            abandoned: ::metrics::gauge!("idempotency_abandoned_records", "operation" => Arc::clone(&name)),
            requests: Slots::default(),
            events: EVENTS.map(|event| {
                let counter = ::metrics::counter!(event, "operation" => Arc::clone(&name));
                counter.increment(0);
                counter
            }),
            name,
        };
        for outcome in ALERTING {
            operation.requested(outcome, 0);
        }
        operation
    }

    fn requested(&self, outcome: Outcome, requests: u64) {
        let make = || {
            ::metrics::counter!("idempotency_requests_total",
                "operation" => Arc::clone(&self.name), "outcome" => outcome.as_str())
        };
        self.requests
            .with(outcome.index(), make, |it| it.increment(requests));
    }

    fn happened(&self, event: usize) {
        if let Some(counter) = self.events.get(event) {
            counter.increment(1);
        }
    }
}

impl Observer for MetricsObserver {
    fn observe(&self, event: &Event<'_>) {
        match *event {
            Event::Request { operation, outcome } => {
                self.operation(operation, |it| it.requested(outcome, 1));
            }
            Event::Claimed {
                operation, attempt, ..
            } => self.operation(operation, |it| {
                it.in_flight.increment(1.0);
                if attempt > 1 {
                    it.happened(TAKEN_OVER);
                }
            }),
            Event::ClaimEnded { operation } => {
                self.operation(operation, |it| it.in_flight.decrement(1.0));
            }
            Event::ClaimLost { operation, .. } => self.happened(operation, LOST),
            Event::Abandoned { operation, .. } => self.happened(operation, ABANDONED),
            Event::PurgedAbandoned { operation, .. } => self.happened(operation, PURGED),
            Event::AbandonedRecords { operation, records } => {
                self.abandoned(operation, records);
            }
            Event::StoreCall {
                store,
                call,
                elapsed,
                error,
            } => self.called(store, call, error, elapsed),
            Event::Renewals {
                renewed,
                late,
                lost,
                failed,
            } => self.renewed([renewed, late, lost, failed]),
            Event::CacheHit => self.process().cache_hits.increment(1),
            Event::BackgroundBegan => self.process().background.increment(1.0),
            Event::BackgroundEnded => self.process().background.decrement(1.0),
            Event::PendingBegan { bytes } => {
                self.process().pending.increment(1.0);
                self.process().pending_bytes.increment(as_f64(bytes));
            }
            Event::PendingEnded { bytes } => {
                self.process().pending.decrement(1.0);
                self.process().pending_bytes.decrement(as_f64(bytes));
            }
        }
    }
}

/// Exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

/// Tells the recorder what each metric is. Once more does no harm.
fn describe() {
    use ::metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!(
        "idempotency_requests_total",
        "Requests, by what they were answered with."
    );
    describe_gauge!(
        "idempotency_in_flight",
        "Attempts of this process that hold a claim or a transaction."
    );
    describe_counter!(
        "idempotency_taken_over_total",
        "Attempts that took over from an abandoned one."
    );
    describe_counter!(
        "idempotency_claims_lost_total",
        "Claims that were lost before their responses were stored."
    );
    describe_counter!(
        "idempotency_attempts_abandoned_total",
        "Attempts of this process that left their key undecided."
    );
    describe_gauge!(
        "idempotency_abandoned_records",
        "Abandoned records in the store, from any process."
    );
    describe_counter!(
        "idempotency_purged_abandoned_total",
        "Abandoned records that were purged without a decision."
    );
    describe_histogram!(
        "idempotency_store_duration_seconds",
        Unit::Seconds,
        "Store calls."
    );
    describe_counter!("idempotency_lease_renewals_total", "Renewals of leases.");
    describe_counter!(
        "idempotency_cache_hits_total",
        "Replays without a store call."
    );
    describe_gauge!(
        "idempotency_background_handlers",
        "Handlers that run on after their clients have gone."
    );
    describe_gauge!(
        "idempotency_pending_responses",
        "Responses that the store has not accepted yet."
    );
    describe_gauge!(
        "idempotency_pending_bytes",
        Unit::Bytes,
        "Memory of the responses that the store has not accepted yet."
    );
}

impl fmt::Debug for MetricsObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsObserver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
