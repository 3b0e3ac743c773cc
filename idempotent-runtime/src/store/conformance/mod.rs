//! The conformance kit: finds out whether a [`Store`](super::Store) keeps the contract.
//!
//! # The problem
//!
//! A store that is wrong looks right. It passes the tests one thinks of, and then, under load, on
//! the day a machine dies, two requests own one key: between its look and its write another
//! request wrote, or the row vanished together with the lease. Every author of a store makes the same few
//! mistakes, so the cases that find them are written once, here, and every store runs them: the
//! ones of this crate, yours, and anything that wraps another store.
//!
//! # Using it
//!
//! Describe how to get at your store and its time with a [`TestBed`], and [`run`] the kit in a
//! test. The [`Report`] says which [`Rule`] was broken, by which case, and what was seen.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use async_trait::async_trait;
//! use idempotent_runtime::ManualClock;
//! use idempotent_runtime::store::Store;
//! use idempotent_runtime::store::conformance::{self, TestBed, Timing};
//! # use idempotent_runtime::store::memory::MemoryStore;
//!
//! struct Bed {
//!     store: Arc<MemoryStore>,
//!     clock: Arc<ManualClock>,
//! }
//!
//! #[async_trait]
//! impl TestBed for Bed {
//!     fn store(&self) -> Arc<dyn Store> {
//!         self.store.clone()
//!     }
//!
//!     async fn advance(&self, by: Duration) {
//!         self.clock.advance(by);
//!     }
//!
//!     fn timing(&self) -> Timing {
//!         Timing::manual()
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // Inside a `#[tokio::test(flavor = "multi_thread")]`:
//! let clock = Arc::new(ManualClock::new());
//! let store = Arc::new(MemoryStore::builder().clock(clock.clone()).build());
//! conformance::run(&Bed { store, clock }).await.assert_conformant();
//! # }
//! ```
//!
//! A store whose time cannot be moved, because it is a server's, sleeps. The default [`Timing`]
//! fits, and a shorter lease makes the kit quicker:
//!
//! ```
//! # use std::sync::Arc;
//! # use std::time::Duration;
//! # use async_trait::async_trait;
//! # use idempotent_runtime::store::Store;
//! # use idempotent_runtime::store::conformance::{TestBed, Timing};
//! struct ServerBed(Arc<dyn Store>);
//!
//! #[async_trait]
//! impl TestBed for ServerBed {
//!     fn store(&self) -> Arc<dyn Store> {
//!         self.0.clone()
//!     }
//!
//!     async fn advance(&self, by: Duration) {
//!         tokio::time::sleep(by).await;
//!     }
//!
//!     fn timing(&self) -> Timing {
//!         Timing::real(Duration::from_millis(400))
//!     }
//! }
//! ```
//!
//! # What it can tell
//!
//! * Run it on a **multi-threaded** tokio runtime with its time driver: on a single thread the
//!   racing cases interleave only where the store awaits.
//! * A slow machine does not make a right store fail. Whatever must exist for a while gets a lease
//!   of minutes; where a case needs "still running" close to the end of a lease it measures how
//!   long it really took, and when the lease could have ended it is not judged but run again with
//!   twice the time. What stays unjudged is in [`Report::inconclusive`].
//! * All keys are random and removed at the end, so a shared server will do. Others may use it
//!   meanwhile.
//! * Calls that hang, or that hold what others need, are found: no case runs for ever.
//! * Where records can be locked one by one, [`TestBed::lock_record`] lets the kit do so: it then
//!   proves that a locked record delays no other.
//! * Nothing else may purge what has expired while the kit runs (an engine's sweeper, another kit on the
//!   same table): it looks for what its own purge has removed.
//! * It is a test and no proof. It does not kill the server, nor cut its connections: what a store
//!   loses in a crash is for its author to test and to document.

use std::time::Duration;

use tokio::time::timeout;

use self::case::Case;
use self::lab::Lab;
use self::verdict::{Failure, Verdict};

mod bed;
mod case;
mod lab;
mod report;
mod request;
mod verdict;

mod abandoning;
mod appending;
mod batches;
mod bytes;
mod claims;
mod fencing;
mod fingerprints;
mod given_up;
mod grace;
mod leases;
mod lifetime;
mod listing;
mod locks;
mod operators;
mod progress;
mod races;
mod subscriptions;
mod take_over;

pub use bed::{RecordLock, TestBed, Timing};
pub use report::{Report, Rule, Violation};

/// How often a case that was too slow to be judged, or met a busy store, is run, each time with twice the lease.
const TRIES: usize = 6;

/// How long a case may take besides the leases that it waits for: long, because it is waited for in
/// full only when a call never ends.
const LONGEST_CASE: Duration = Duration::from_secs(10 * 60);

/// How long the removal of what a case has written may take.
const LONGEST_CLEAN_UP: Duration = Duration::from_secs(60);

/// Runs every case, one after the other.
///
/// A case that ends in a [`StoreError`](super::StoreError), or does not end, is a violation too: the
/// store under test is expected to be up. One that ends in [`Busy`](super::StoreErrorKind::Busy) is run again first.
pub async fn run(bed: &dyn TestBed) -> Report {
    let mut report = Report::new(bed.store().name());
    for case in all_cases() {
        report.ran(case.name);
        match judge(bed, case).await {
            Ok(()) => {}
            Err(Failure::Violated(rule, detail) | Failure::Busy(rule, detail)) => {
                report.violated(case.name, rule.unwrap_or(case.rule), detail);
            }
            Err(Failure::Inconclusive) => report.not_judged(case.name),
        }
    }
    report
}

fn all_cases() -> impl Iterator<Item = &'static Case> {
    [
        claims::CASES,
        races::CASES,
        take_over::CASES,
        fencing::CASES,
        batches::CASES,
        locks::CASES,
        abandoning::CASES,
        fingerprints::CASES,
        grace::CASES,
        leases::CASES,
        lifetime::CASES,
        bytes::CASES,
        progress::CASES,
        appending::CASES,
        operators::CASES,
        listing::CASES,
        subscriptions::CASES,
        given_up::CASES,
    ]
    .into_iter()
    .flatten()
}

async fn judge(bed: &dyn TestBed, case: &Case) -> Verdict {
    let mut timing = bed.timing();
    let mut last = Failure::Inconclusive;
    for _ in 0..TRIES {
        let lab = Lab::new(bed, timing);
        let limit = LONGEST_CASE.saturating_add(timing.lease().saturating_mul(100));
        let verdict = timeout(limit, (case.run)(&lab)).await;
        let never = |_| Failure::unexpected("this case", "an end", &"calls that never end");
        let verdict = verdict.map_err(never).flatten();
        // The case is judged already.
        drop(timeout(LONGEST_CLEAN_UP, lab.clean_up()).await);
        match verdict {
            Err(failure @ (Failure::Inconclusive | Failure::Busy(..))) => last = failure,
            decided => return decided,
        }
        timing = timing.doubled();
    }
    Err(last)
}
