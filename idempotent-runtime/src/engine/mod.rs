//! The engine: the claim protocol, and nothing of HTTP.
//!
//! It turns "this key, this fingerprint, this policy" into one of a few outcomes, keeps the lease
//! of whoever runs, and sees to it that what was claimed is completed or released whatever happens
//! to the caller: a future that is dropped half-way, a store that is away, a claim that was lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{Record, RecordState, StoredResponse};
use crate::store::{Claim, ClaimRequest, Store, StoreError};

mod abandoned;
mod background;
mod claim;
mod detach;
mod fingerprints;
mod held;
mod leases;
mod seats;
mod settle;
mod steps;
mod sweep;
mod transaction;
mod unwind;
mod wait;

pub(crate) use abandoned::{Crashed, DescribeAbandoned};
pub(crate) use detach::{Detach, Mover};
pub(crate) use fingerprints::Fingerprints;
pub(crate) use held::{Answer, Held};
pub use steps::StepError;
pub(crate) use steps::{Labels, Steps};
pub(crate) use transaction::InTransaction;
pub(crate) use unwind::{CatchUnwind, catch_unwind};

/// Shared by every clone of an [`Idempotency`](crate::Idempotency).
#[derive(Clone, Debug)]
pub(crate) struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    store_timeout: Duration,
    leases: leases::Leases,
    watches: wait::Watches,
    seats: seats::Seats,
    sweeper: sweep::Sweeper,
    tasks: TaskTracker,
    held: AtomicUsize,
    given_up: background::Limit,
    closing: AtomicBool,
}

/// One request, as far as the engine knows it and a store is asked for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intent {
    pub(crate) key: RecordKey,
    pub(crate) fingerprint: Fingerprint,
}

/// What becomes of an [`Intent`].
#[derive(Debug)]
pub(crate) enum Outcome<R = Held> {
    /// This caller runs, under a claim or in a transaction.
    Run(R),
    /// It was done before.
    Replay(Arc<StoredResponse>),
    /// Somebody else is at it.
    InFlight { lease_left: Duration },
    /// Somebody was at it and crashed, and the policy is not to run again.
    Unknown,
    /// The key is another request's.
    Mismatch,
}

/// Why there is no outcome. Nothing has run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the service is shutting down")]
    ShuttingDown,
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is a crashed attempt, and a recovery function cannot be told what it has finished.
    #[error("cannot read what an abandoned attempt has finished")]
    Unread(#[source] StoreError),
    #[error("no random token")]
    NoToken(#[from] std::io::Error),
}

impl Engine {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        store_timeout: Duration,
        sweep_every: Duration,
    ) -> Self {
        Self(Arc::new(Inner {
            leases: leases::Leases::new(Arc::clone(&store), store_timeout),
            watches: wait::Watches::new(Arc::clone(&store), store_timeout),
            seats: seats::Seats::default(),
            sweeper: sweep::Sweeper::new(sweep_every),
            store,
            store_timeout,
            tasks: TaskTracker::new(),
            held: AtomicUsize::new(0),
            given_up: background::Limit::default(),
            closing: AtomicBool::new(false),
        }))
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// Stops claiming, waits for what runs, and says how many claims were left at the deadline.
    pub(crate) async fn shutdown(&self, deadline: Duration) -> usize {
        self.0.closing.store(true, Ordering::Release);
        self.0.tasks.close();
        self.0.sweeper.stop();
        match tokio::time::timeout(deadline, self.0.tasks.wait()).await {
            Ok(()) => 0,
            Err(_) => self.0.held.load(Ordering::Acquire),
        }
    }

    /// The stored response of exactly this request, if there is one.
    pub(crate) async fn peek(
        &self,
        key: RecordKey,
        is_this_request: impl FnOnce(Fingerprint) -> bool,
    ) -> Option<Arc<StoredResponse>> {
        let record = self.read(&key).await.ok()??;
        match record.state {
            RecordState::Completed(stored) if is_this_request(record.fingerprint) => Some(stored),
            _ => None,
        }
    }

    pub(crate) async fn read(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.timed(self.0.store.get(key)).await
    }

    /// Asks for a claim that was lost: who still has it gets it, and so does who finds that the
    /// record is gone, because the store has lost it.
    async fn claim_again(&self, request: &ClaimRequest) -> Result<Claim, StoreError> {
        let again = ClaimRequest {
            take_over: None,
            ..*request
        };
        self.timed(self.0.store.claim(&again)).await
    }

    fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::Acquire)
    }

    /// Bounds a store call in time.
    async fn timed<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        leases::timed(&self.0.store, self.0.store_timeout, call).await
    }
}
