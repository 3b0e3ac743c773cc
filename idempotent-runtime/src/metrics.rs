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
//! **Install the exporter first.** An observer asks the recorder for each metric once, when it is first needed; without a recorder
//! it gets one that counts nothing, for good.
//!
//! | metric | | labels | |
//! | --- | --- | --- | --- |
//! | `idempotency_requests_total` | counter | `operation`, `outcome` | requests, by what they were answered with |
//! | `idempotency_in_flight` | gauge | `operation` | attempts of this process that hold a claim or a transaction |
//! | `idempotency_taken_over_total` | counter | `operation` | attempts that took over from an abandoned one |
//! | `idempotency_claims_lost_total` | counter | `operation` | claims that were lost while their handlers ran or their responses were being stored |
//! | `idempotency_abandoned_total` | counter | `operation` | attempts of this process that left their key undecided |
//! | `idempotency_abandoned` | gauge | `operation` | abandoned records in the store, of whichever process |
//! | `idempotency_purged_abandoned_total` | counter | `operation` | abandoned records that were purged: nothing was decided about them |
//! | `idempotency_store_duration_seconds` | histogram | `store`, `call`, `result` | store calls; the result is `ok` or a kind of error |
//! | `idempotency_lease_renewals_total` | counter | `result` | renewals: `renewed`, `late` (it had ended by then), `lost`, `failed` |
//! | `idempotency_cache_hits_total` | counter | | replays without a store call |
//! | `idempotency_background_handlers` | gauge | | handlers that run on after their clients have gone |
//! | `idempotency_pending_responses` | gauge | | responses that the store has not accepted yet |
//! | `idempotency_pending_bytes` | gauge | | their memory |
//!
//! The operation is the only label that the application chooses; there is never one of a key, a scope or a record. More than
//! [`MetricsObserver::MAX_OPERATIONS`] operations are counted together as `(other)`. `metrics/alerts.yml` and
//! `metrics/dashboard.json` in the repository are alert rules for Prometheus and a dashboard for Grafana.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use ::metrics::{Counter, Gauge, Histogram, Unit};

use crate::observer::{Event, Observer, Outcome};
use crate::store::StoreErrorKind;

use self::slots::Slots;

mod slots;

/// An [`Observer`] that counts on the `metrics` facade.
///
/// A request with metrics costs a few hundred instructions more: each counter is looked up once, and nothing is allocated after that.
#[derive(Default)]
pub struct MetricsObserver {
    operations: RwLock<HashMap<Box<str>, Arc<Operation>>>,
    store: Slots<Histogram>,
    process: Process,
}

/// The metrics of one operation, each made when it is first needed.
#[derive(Default)]
struct Operation {
    name: Arc<str>,
    requests: Slots<Counter>,
    in_flight: OnceLock<Gauge>,
    taken_over: OnceLock<Counter>,
    lost: OnceLock<Counter>,
    abandoned: OnceLock<Counter>,
    abandoned_records: OnceLock<Gauge>,
    purged: OnceLock<Counter>,
}

/// Those without an operation.
#[derive(Default)]
struct Process {
    renewals: Slots<Counter>,
    cache_hits: OnceLock<Counter>,
    background: OnceLock<Gauge>,
    pending: OnceLock<Gauge>,
    pending_bytes: OnceLock<Gauge>,
}

/// What is counted together once there are too many operations.
const OTHER: &str = "(other)";

impl MetricsObserver {
    /// How many operations are told apart: 256.
    pub const MAX_OPERATIONS: usize = 256;

    /// One that counts with the recorder that is installed when something is first counted.
    #[must_use]
    pub fn new() -> Self {
        describe();
        Self::default()
    }

    fn operation(&self, name: &str) -> Arc<Operation> {
        let operations = self.operations.read();
        let operations = operations.unwrap_or_else(PoisonError::into_inner);
        if let Some(operation) = operations.get(name) {
            return Arc::clone(operation);
        }
        let is_full = operations.len() >= Self::MAX_OPERATIONS;
        drop(operations);
        let name = if is_full { OTHER } else { name };
        let operations = self.operations.write();
        let mut operations = operations.unwrap_or_else(PoisonError::into_inner);
        let operation = operations.entry(name.into()).or_insert_with(|| {
            Arc::new(Operation {
                name: name.into(),
                ..Operation::default()
            })
        });
        Arc::clone(operation)
    }
}

impl Operation {
    fn counter(&self, name: &'static str) -> Counter {
        ::metrics::counter!(name, "operation" => Arc::clone(&self.name))
    }

    fn gauge(&self, name: &'static str) -> Gauge {
        ::metrics::gauge!(name, "operation" => Arc::clone(&self.name))
    }

    fn requested(&self, outcome: Outcome) {
        let counter = || {
            ::metrics::counter!("idempotency_requests_total",
                "operation" => Arc::clone(&self.name), "outcome" => outcome.as_str())
        };
        self.requests.with(outcome.as_str(), counter, |it| it.increment(1));
    }

    fn in_flight(&self) -> &Gauge {
        self.in_flight
            .get_or_init(|| self.gauge("idempotency_in_flight"))
    }
}

impl Observer for MetricsObserver {
    fn observe(&self, event: &Event<'_>) {
        match *event {
            Event::Request { operation, outcome } => self.operation(operation).requested(outcome),
            Event::Claimed {
                operation, attempt, ..
            } => {
                let operation = self.operation(operation);
                operation.in_flight().increment(1.0);
                if attempt > 1 {
                    let counter = || operation.counter("idempotency_taken_over_total");
                    operation.taken_over.get_or_init(counter).increment(1);
                }
            }
            Event::ClaimEnded { operation } => {
                self.operation(operation).in_flight().decrement(1.0);
            }
            Event::ClaimLost { operation, .. } => {
                let operation = self.operation(operation);
                let counter = || operation.counter("idempotency_claims_lost_total");
                operation.lost.get_or_init(counter).increment(1);
            }
            Event::Abandoned { operation, .. } => {
                let operation = self.operation(operation);
                let counter = || operation.counter("idempotency_abandoned_total");
                operation.abandoned.get_or_init(counter).increment(1);
            }
            Event::AbandonedRecords { operation, records } => {
                let operation = self.operation(operation);
                let gauge = || operation.gauge("idempotency_abandoned");
                operation
                    .abandoned_records
                    .get_or_init(gauge)
                    .set(as_f64(records));
            }
            Event::PurgedAbandoned { operation, .. } => {
                let operation = self.operation(operation);
                let counter = || operation.counter("idempotency_purged_abandoned_total");
                operation.purged.get_or_init(counter).increment(1);
            }
            Event::StoreCall {
                store,
                call,
                elapsed,
                error,
            } => {
                let (call, result) = (call.as_str(), error.map_or("ok", result));
                let histogram = || {
                    ::metrics::histogram!("idempotency_store_duration_seconds",
                        "store" => store, "call" => call, "result" => result)
                };
                self.store
                    .with((call, result), histogram, |it| it.record(elapsed));
            }
            Event::Renewals {
                renewed,
                late,
                lost,
                failed,
            } => self.process.renewed(renewed, late, lost, failed),
            Event::CacheHit => {
                let counter = || ::metrics::counter!("idempotency_cache_hits_total");
                self.process.cache_hits.get_or_init(counter).increment(1);
            }
            Event::Background { handlers } => {
                let gauge = || ::metrics::gauge!("idempotency_background_handlers");
                let gauge = self.process.background.get_or_init(gauge);
                gauge.set(as_f64(handlers));
            }
            Event::PendingResponses { responses, bytes } => {
                let gauge = || ::metrics::gauge!("idempotency_pending_responses");
                let gauge = self.process.pending.get_or_init(gauge);
                gauge.set(as_f64(responses));
                let gauge = || ::metrics::gauge!("idempotency_pending_bytes");
                let gauge = self.process.pending_bytes.get_or_init(gauge);
                gauge.set(as_f64(bytes));
            }
        }
    }
}
