//! The conformance kit on the in-process store, and on stores that it must reject.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idempotent_runtime::store::conformance::{self, RecordLock, Report, Rule, TestBed, Timing};
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{CachedStore, ReplayCache, Store};
use idempotent_runtime::{ManualClock, RecordKey};

use broken::{FAULTS, Fault, MutexStore};
use insistent::InsistentStore;

mod broken;
#[path = "support/insistent.rs"]
mod insistent;

/// A store on a clock that only the kit moves.
struct ManualBed {
    store: Arc<dyn Store>,
    /// The same, if its records can be locked.
    locks: Option<Arc<MutexStore>>,
    clock: Arc<ManualClock>,
}

impl ManualBed {
    fn new<S: Store>(store: impl FnOnce(Arc<ManualClock>) -> S) -> Self {
        let clock = Arc::new(ManualClock::new());
        Self {
            store: Arc::new(store(Arc::clone(&clock))),
            locks: None,
            clock,
        }
    }

    fn mutex(fault: Option<Fault>) -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = Arc::new(MutexStore::new(Arc::clone(&clock), fault));
        Self {
            store: Arc::clone(&store) as _,
            locks: Some(store),
            clock,
        }
    }
}

#[async_trait]
impl TestBed for ManualBed {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn lock_record(&self, key: &RecordKey) -> Option<Box<dyn RecordLock>> {
        Some(self.locks.as_ref()?.lock_record(key))
    }

    fn timing(&self) -> Timing {
        Timing::manual()
    }
}

/// A store on the machine's clock, where waiting takes `overslept` times as long as it should.
struct RealBed {
    store: Arc<dyn Store>,
    overslept: u32,
}

#[async_trait]
impl TestBed for RealBed {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by * self.overslept).await;
    }
}

fn memory(clock: Arc<ManualClock>) -> MemoryStore {
    MemoryStore::builder().clock(clock).build()
}

async fn assert_conformant<S: Store>(store: impl FnOnce(Arc<ManualClock>) -> S) {
    assert_conformant_bed(ManualBed::new(store)).await;
}

async fn assert_conformant_bed(bed: ManualBed) {
    let report = conformance::run(&bed).await;
    report.assert_conformant();
    assert!(
        report.cases().len() > 100,
        "only {} cases were run",
        report.cases().len()
    );
    assert!(report.inconclusive().is_empty(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_store_is_conformant() {
    assert_conformant(memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn arc_of_a_store_is_conformant() {
    assert_conformant(|clock| Arc::new(memory(clock)) as Arc<dyn Store>).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn box_of_a_store_is_conformant() {
    assert_conformant(|clock| Box::new(memory(clock)) as Box<dyn Store>).await;
}

fn cached(clock: Arc<ManualClock>) -> CachedStore {
    let cache = ReplayCache::new().clock(Arc::clone(&clock) as _);
    cache.in_front_of(memory(clock))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cached_store_is_conformant() {
    assert_conformant(cached).await;
}

/// Where every replay that the kit sees is one from the cache.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cached_store_of_which_all_keys_are_hot_is_conformant() {
    assert_conformant(|clock| InsistentStore(cached(clock))).await;
}

/// The machine's clock is paused, so that it moves by the kit's own waiting and by nothing else.
#[tokio::test(start_paused = true)]
async fn memory_store_on_the_machines_clock_is_conformant() {
    let bed = RealBed {
        store: Arc::new(MemoryStore::new()),
        overslept: 1,
    };
    let report = conformance::run(&bed).await;
    report.assert_conformant();
    assert!(report.inconclusive().is_empty(), "{report}");
}

/// A machine that is never in time: what depends on being in time is not judged, the rest is, and
/// the right store is not called wrong.
#[tokio::test(start_paused = true)]
async fn slow_machine_makes_no_violation() {
    let bed = RealBed {
        store: Arc::new(MemoryStore::new()),
        overslept: 3,
    };
    let report = conformance::run(&bed).await;
    report.assert_conformant();
    assert!(
        report
            .inconclusive()
            .contains(&"live_lease_is_not_taken_over"),
        "{report}"
    );
    assert!(report.inconclusive().len() < 10, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mutex_store_without_a_fault_is_conformant() {
    assert_conformant_bed(ManualBed::mutex(None)).await;
}

/// On one thread, so that who yields between its look and its write is overtaken every time; and
/// with tokio's time paused, so that waiting in vain takes none.
async fn report_on(fault: Fault) -> Report {
    conformance::run(&ManualBed::mutex(Some(fault))).await
}

fn all_reports() -> Vec<Report> {
    let run = |faults: Vec<Fault>| {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
        let report = |fault| runtime.block_on(report_on(fault));
        faults.into_iter().map(report).collect::<Vec<_>>()
    };
    let faults: Vec<_> = FAULTS.iter().map(|(fault, ..)| *fault).collect();
    std::thread::scope(|scope| {
        let parts = faults.chunks(faults.len().div_ceil(4));
        let runs: Vec<_> = parts
            .map(|part| scope.spawn(move || run(part.to_vec())))
            .collect();
        runs.into_iter()
            .flat_map(|run| run.join().unwrap())
            .collect()
    })
}

/// And a case that no fault can fail would tell nothing by passing.
#[test]
fn each_fault_is_found_and_called_by_its_rule_and_every_case_can_fail() {
    let reports = all_reports();
    let mut unfailed: BTreeSet<_> = reports[0].cases().iter().copied().collect();
    for ((fault, rule, cases), report) in FAULTS.iter().zip(&reports) {
        assert!(
            report.violates(*rule),
            "{fault:?} is not against {rule}:\n{report}"
        );
        for case in *cases {
            let mut violations = report.violations().iter();
            let found = violations.find(|violation| violation.case == *case);
            assert_eq!(
                found.map(|violation| violation.rule),
                Some(*rule),
                "{fault:?} is not found by {case}:\n{report}"
            );
        }
        for violation in report.violations() {
            unfailed.remove(violation.case);
        }
    }
    assert!(unfailed.is_empty(), "no fault fails {unfailed:?}");
}

#[tokio::test(start_paused = true)]
async fn store_error_is_a_violation_and_tells_its_cause() {
    let report = report_on(Fault::Unavailable).await;
    assert_eq!(report.violations().len(), report.cases().len(), "{report}");
    let detail = &report.violations()[0].detail;
    assert_eq!(detail, "store error: mutex store is unavailable: unplugged");
}

#[tokio::test(start_paused = true)]
#[should_panic = "breaks rule 2 (every write compares the token)"]
async fn assert_conformant_panics_with_the_report() {
    report_on(Fault::UnfencedCompletion)
        .await
        .assert_conformant();
}

#[tokio::test(start_paused = true)]
async fn report_names_the_case_and_what_was_seen() {
    let report = report_on(Fault::LeaseIsTheTtl).await;
    assert!(report.violates(Rule::LeaseIsNotLife));
    assert!(!report.violates(Rule::FingerprintFirst), "{report}");
    let text = report.to_string();
    assert!(text.starts_with("the mutex store failed "), "{text}");
    assert!(
        text.contains("ended_lease_is_abandonment_and_not_absence breaks rule 4"),
        "{text}"
    );
    assert!(
        text.contains("got `Acquired(Acquired { attempt: 1, age: 0ns })`"),
        "{text}"
    );
}
