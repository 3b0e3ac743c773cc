//! Functions without HTTP: `Idempotency::execute`, and the attribute on a plain function.

mod attribute;
mod claims;
mod crashes;
mod identity;
mod results;
mod store_failures;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use idempotent_runtime::{
    Attempt, ExecuteError, ExecuteErrorKind, Execution, Idempotency, IdempotencyBuilder,
    ManualClock, Policy,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use crate::support::{FaultyStore, Probe, builder_on, pending};

const LEASE: Duration = Duration::from_secs(30);
const DEFAULT: Policy = Policy::new();

/// Why a message was not settled.
#[derive(Debug)]
pub enum SettleError {
    /// Nothing happened.
    Unreachable,
    NotExecuted(ExecuteError),
}

impl From<ExecuteError> for SettleError {
    fn from(error: ExecuteError) -> Self {
        Self::NotExecuted(error)
    }
}

pub type Outcome<T = usize> = Result<Execution<T>, SettleError>;

/// A consumer of messages, on a store that fails when it is told to and whose clock stands still.
#[derive(Clone)]
pub struct Consumer {
    pub idempotency: Idempotency,
    pub probe: Probe,
    pub store: FaultyStore,
    pub clock: Arc<ManualClock>,
}

impl Consumer {
    pub fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub fn with(settings: impl FnOnce(IdempotencyBuilder) -> IdempotencyBuilder) -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = FaultyStore::certain(&clock);
        Self {
            idempotency: settings(builder_on(store.clone())).build(),
            probe: Probe::default(),
            store,
            clock,
        }
    }

    /// Receives a message that says nothing, and runs this.
    pub async fn call<F, Fut, T>(&self, policy: Policy, key: &str, function: F) -> Outcome<T>
    where
        F: FnOnce(Probe, Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, SettleError>> + Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let probe = self.probe.clone();
        let function = |attempt| function(probe, attempt);
        self.idempotency
            .execute_attempt(&policy, "op", (), key, &(), function)
            .await
    }

    /// Receives a message, and says in which run it was done.
    pub async fn receive(&self, policy: Policy, key: &str) -> Outcome {
        self.call(policy, key, async |probe, _| Ok(probe.run()))
            .await
    }

    /// As [`receive`](Self::receive), in a task of its own, where it waits to be let through.
    pub fn spawn(&self, policy: Policy, key: &'static str) -> JoinHandle<Outcome> {
        self.spawn_call(policy, key, async |probe, _| Ok(probe.run_gated().await))
    }

    /// As [`call`](Self::call), in a task of its own.
    pub fn spawn_call<F, Fut>(
        &self,
        policy: Policy,
        key: &'static str,
        function: F,
    ) -> JoinHandle<Outcome>
    where
        F: FnOnce(Probe, Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Result<usize, SettleError>> + Send + 'static,
    {
        let consumer = self.clone();
        tokio::spawn(async move { consumer.call(policy, key, function).await })
    }

    /// Another process on the same store, whose functions are not held up.
    pub fn next_process(&self) -> Self {
        let process = Self {
            idempotency: Idempotency::new(self.store.clone()),
            probe: Probe::default(),
            ..self.clone()
        };
        for _ in 0..5 {
            process.probe.open();
        }
        process
    }

    /// Waits until this much goes on.
    pub async fn pending(&self, count: usize) {
        pending(&self.idempotency, count).await;
    }
}

#[track_caller]
fn assert_executed(outcome: Outcome, run: usize) {
    assert_eq!(outcome.unwrap(), Execution::Executed(run));
}

#[track_caller]
fn assert_replayed(outcome: Outcome, run: usize) {
    assert_eq!(outcome.unwrap(), Execution::Replayed(run));
}

#[track_caller]
fn assert_unreachable(outcome: Outcome) {
    let is_own = matches!(outcome, Err(SettleError::Unreachable));
    assert!(is_own, "{outcome:?}");
}

#[track_caller]
fn assert_no_result<T: fmt::Debug>(outcome: Outcome<T>, kind: ExecuteErrorKind) {
    let Err(SettleError::NotExecuted(reason)) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(reason.kind(), kind);
}
