use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use ::metrics::{Key, KeyName, Metadata, Recorder, SharedString};

use super::*;
use crate::handle::ProblemCode;
use crate::key::RecordKey;

/// The name of a metric, and its labels.
type Series = (String, Vec<(String, String)>);

/// Names of metrics and of their labels, and how often each series was asked for.
#[derive(Debug, Default)]
struct Asked {
    metrics: Mutex<Vec<Series>>,
    described: Mutex<BTreeSet<String>>,
}

impl Asked {
    fn add(&self, key: &Key) {
        let labels = key.labels();
        let labels = labels.map(|it| (it.key().to_owned(), it.value().to_owned()));
        let asked = (key.name().to_owned(), labels.collect());
        self.metrics.lock().unwrap().push(asked);
    }

    fn names(&self) -> BTreeSet<String> {
        let metrics = self.metrics.lock().unwrap();
        metrics.iter().map(|(name, _)| name.clone()).collect()
    }
}

impl Recorder for Asked {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.described
            .lock()
            .unwrap()
            .insert(key.as_str().to_owned());
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe_counter(key, unit, text);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe_counter(key, unit, text);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.add(key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.add(key);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.add(key);
        Histogram::noop()
    }
}

/// Each event, for this operation.
fn every_event(operation: &str) -> Vec<Event<'_>> {
    let record = RecordKey::from_bytes([7; 32]);
    let mut events = vec![
        Event::Claimed {
            operation,
            record,
            attempt: 2,
        },
        Event::ClaimEnded { operation },
        Event::ClaimLost { operation, record },
        Event::Abandoned { operation, record },
        Event::AbandonedRecords {
            operation,
            records: 3,
        },
        Event::PurgedAbandoned { operation, record },
        Event::Renewals {
            renewed: 1,
            late: 1,
            lost: 1,
            failed: 1,
        },
        Event::CacheHit,
        Event::BackgroundBegan,
        Event::BackgroundEnded,
        Event::PendingBegan { bytes: 2 },
        Event::PendingEnded { bytes: 2 },
    ];
    let problems = ProblemCode::ALL.iter().map(|code| Outcome::Problem(*code));
    let outcomes = [
        Outcome::Stored,
        Outcome::Pending,
        Outcome::NotStored,
        Outcome::Replayed,
        Outcome::Unprotected,
        Outcome::Degraded,
        Outcome::Safe,
        Outcome::Disconnected,
    ];
    let outcomes = outcomes.into_iter().chain(problems);
    events.extend(outcomes.map(|outcome| Event::Request { operation, outcome }));
    for call in [StoreCall::Claim, StoreCall::Undo] {
        for error in [
            None,
            Some(StoreErrorKind::Unavailable),
            Some(StoreErrorKind::Corrupt),
        ] {
            events.push(Event::StoreCall {
                store: "memory",
                call,
                elapsed: Duration::from_millis(1),
                error,
            });
        }
    }
    events
}

fn observe(observer: &MetricsObserver, events: &[Event<'_>]) -> Asked {
    let asked = Asked::default();
    ::metrics::with_local_recorder(&asked, || {
        events.iter().for_each(|event| observer.observe(event));
    });
    asked
}

/// The documentation's table: each metric, with its labels.
fn documented() -> Vec<(String, Vec<String>)> {
    let text = include_str!("../metrics.rs");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let words = |text: &str| -> Vec<String> {
        text.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    rows.map(|row| {
        let (name, rest) = row.split_once('`').unwrap();
        let labels = rest.split('|').nth(2).unwrap();
        (name.to_owned(), words(labels))
    })
    .collect()
}

#[test]
fn each_event_is_counted_as_the_documentation_says() {
    let asked = observe(&MetricsObserver::new(), &every_event("POST /pay"));
    let documented = documented();
    let names = documented.iter().map(|(name, _)| name.clone());
    assert_eq!(asked.names(), names.collect());
    assert_eq!(*asked.described.lock().unwrap(), asked.names());
    for (name, labels) in asked.metrics.lock().unwrap().iter() {
        let (_, expected) = documented.iter().find(|(it, _)| it == name).unwrap();
        let labels: Vec<_> = labels.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(labels, *expected, "{name}");
    }
}

/// Each outcome has a counter of its own, and each is asked for once however often it is needed.
#[test]
fn each_series_is_asked_for_once() {
    let events = every_event("POST /pay");
    let observer = MetricsObserver::new();
    let asked = observe(&observer, &events);
    let metrics = asked.metrics.lock().unwrap();
    let distinct: BTreeSet<_> = metrics.iter().collect();
    assert_eq!(distinct.len(), metrics.len());
    let of_requests = metrics
        .iter()
        .filter(|(name, _)| name == "idempotency_requests_total");
    assert_eq!(of_requests.count(), Outcome::COUNT);
    let again = observe(&observer, &events);
    assert!(again.names().is_empty(), "{:?}", again.names());
}

#[test]
fn operations_beyond_the_bound_are_counted_together() {
    let observer = MetricsObserver::new();
    let names: Vec<_> = (0..MetricsObserver::MAX_OPERATIONS + 10)
        .map(|number| format!("operation {number}"))
        .collect();
    let events = names
        .iter()
        .map(|operation| Event::ClaimEnded { operation });
    let asked = observe(&observer, &events.collect::<Vec<_>>());
    let metrics = asked.metrics.lock().unwrap();
    let labels = metrics.iter().flat_map(|(_, labels)| labels);
    let operations: BTreeSet<_> = labels.filter(|(key, _)| key == "operation").collect();
    assert_eq!(operations.len(), MetricsObserver::MAX_OPERATIONS + 1);
    assert!(operations.iter().any(|(_, name)| name == OTHER));
}
