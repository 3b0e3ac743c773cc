//! Steps of a claim that may be another attempt's by now, on a store and a clock that are moved manually.

use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::engine::Described;
use crate::engine::calls::lock;
use crate::engine::claim_terms::ClaimTerms;
use crate::engine::leases::LeaseView;
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::observer::Observers;
use crate::record::progress::FinishedSteps;
use crate::record::{Owner, RecordState, StoredResponse, Token};
use crate::store::backend::Backend;
use crate::store::memory::MemoryStore;
use crate::store::{Acquired, Claim, Completion};

const LEASE: Duration = Duration::from_secs(30);

/// One attempt at one record, whose lease is not renewed.
struct Attempt {
    steps: Steps,
    labels: Labels,
    claim: ClaimTerms,
    ran: Arc<Mutex<Vec<&'static str>>>,
}

fn engine() -> Engine {
    let settings = crate::engine::EngineSettings {
        purge_interval: Duration::ZERO,
        ..Default::default()
    };
    Engine::new(
        Backend::new(Arc::new(MemoryStore::new()), None),
        settings,
        None,
        Observers::default(),
    )
}

impl Attempt {
    async fn claim(engine: &Engine, token: u8, take_over: Option<u32>) -> Self {
        let owner = Owner {
            key: RecordKey::from_bytes([7; 32]),
            token: Token::from_bytes([token; 16]),
        };
        let fingerprint = Fingerprint::from_bytes([1; 32]);
        let operation = Described::new("test", None);
        let claim = ClaimTerms::new(
            owner,
            fingerprint,
            &operation,
            LEASE,
            (1000 * LEASE, 1000 * LEASE),
        );
        let request = claim.request(take_over);
        let asked_at = Instant::now();
        let claimed = engine.store().claim(&request).await.unwrap();
        let Claim::Acquired(Acquired { attempt, .. }) = claimed else {
            panic!("{claimed:?}");
        };
        let lease = LeaseView::unattended(&engine.0.leases, claim.clone(), asked_at);
        let held = Held::new(&claim, attempt, lease);
        let steps = Steps::new(engine, held, Box::default());
        steps.identify().await.unwrap();
        Self {
            steps,
            labels: Labels::default(),
            claim,
            ran: Arc::default(),
        }
    }

    async fn step(&self, label: &'static str) -> Result<u64, StepError<Infallible>> {
        let step = async {
            lock(&self.ran).push(label);
            Ok(7)
        };
        let taken = self.labels.take(label).expect("a label of its own");
        self.steps.step(taken, step).await
    }

    fn ran(&self) -> Vec<&'static str> {
        lock(&self.ran).clone()
    }

    async fn complete(&self, engine: &Engine) {
        let response = Arc::new(StoredResponse::of_value(&1).unwrap());
        let completion = engine.store().complete(&self.claim.owner, &response, LEASE);
        assert!(matches!(completion.await, Ok(Completion::Stored)));
    }
}

/// A thread that stood still for longer than its lease sent a receipt, after the attempt that had taken
/// over had sent one.
#[tokio::test(start_paused = true)]
async fn a_step_does_not_run_when_its_claim_was_taken_over_while_the_process_stood_still() {
    for is_completed in [false, true] {
        let engine = engine();
        let first = Attempt::claim(&engine, 1, None).await;
        assert_eq!(first.step("charge").await.unwrap(), 7);
        tokio::time::advance(LEASE).await;
        let second = Attempt::claim(&engine, 2, Some(1)).await;
        assert_eq!(second.step("charge").await.unwrap(), 7);
        assert_eq!(second.step("receipt").await.unwrap(), 7);
        if is_completed {
            second.complete(&engine).await;
        }
        for label in ["receipt", "mail"] {
            let refused = first.step(label).await;
            assert!(matches!(refused, Err(StepError::Lost)), "{refused:?}");
        }
        assert_eq!(first.ran(), ["charge"]);
        assert_eq!(second.ran(), ["receipt"]);
    }
}

/// No other attempt took over, so the claim is still this attempt's, and it says so to the store first.
#[tokio::test(start_paused = true)]
async fn a_step_after_the_lease_has_ended_renews_it_and_runs() {
    let engine = engine();
    let first = Attempt::claim(&engine, 1, None).await;
    tokio::time::advance(LEASE).await;
    assert_eq!(first.step("charge").await.unwrap(), 7);
    tokio::time::advance(LEASE * 2 / 3).await;
    assert_eq!(first.step("receipt").await.unwrap(), 7);
    let record = engine.read(&first.claim.owner.key).await.unwrap();
    let state = record.unwrap().state;
    assert!(
        matches!(state, RecordState::Running { lease_left } if lease_left == LEASE / 3),
        "{state:?}"
    );
    assert_eq!(first.ran(), ["charge", "receipt"]);
}

#[tokio::test(start_paused = true)]
async fn a_step_of_a_record_that_the_store_has_lost_runs_when_it_is_put_back() {
    let engine = engine();
    let first = Attempt::claim(&engine, 1, None).await;
    assert_eq!(first.step("charge").await.unwrap(), 7);
    let owner = first.claim.owner;
    engine
        .store()
        .release(&[owner])
        .await
        .pop()
        .unwrap()
        .unwrap();
    tokio::time::advance(LEASE).await;
    assert_eq!(first.step("receipt").await.unwrap(), 7);
    let record = engine.read(&owner.key).await.unwrap().unwrap();
    let steps = FinishedSteps::decode(&record.progress).unwrap();
    assert_eq!(steps.labels().collect::<Vec<_>>(), ["charge", "receipt"]);
}

/// It ran, and was told afterwards that it had come too late.
#[tokio::test(start_paused = true)]
async fn a_step_that_is_begun_when_the_run_is_over_does_not_run() {
    let engine = engine();
    let first = Attempt::claim(&engine, 1, None).await;
    assert_eq!(first.step("charge").await.unwrap(), 7);
    first.complete(&engine).await;
    first.steps.end();
    let refused = first.step("receipt").await;
    assert!(matches!(refused, Err(StepError::Lost)), "{refused:?}");
    assert_eq!(first.ran(), ["charge"]);
}

/// Both have run, and each result fits alone: what is stored is asked under the lock that it is appended under.
#[test]
fn results_that_fit_alone_do_not_pass_the_bound_together() {
    let log = Log::default();
    let large = "x".repeat(MAX_PROGRESS_BYTES * 6 / 10);
    let finished = |label| Finished::new::<String>(label, Some(format!("{large:?}")));
    let (first, second) = (finished("first"), finished("second"));
    let bytes = second.encode().len();
    assert!(log.append_if_it_fits("first", first).is_ok());
    assert_eq!(log.append_if_it_fits("second", second), Err(bytes));
    assert!(log.unsaid("second").is_none());
    let end = log.append("second", Finished::new::<String>("second", None));
    assert!(end <= MAX_PROGRESS_BYTES);
    assert!(log.unsaid("second").is_some());
}
