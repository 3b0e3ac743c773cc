//! What handlers did, as the world outside the service sees it: runs and their effects.

use std::sync::{Arc, Mutex, MutexGuard};

use idempotent_runtime::RecordKey;

use crate::plan::{Abandoned, HandlerOutcome, IntentPlan, Millis, Plan, Surface};
use crate::process::ProcessId;
use crate::rng::Rng;

/// One run of a handler.
#[derive(Clone, Debug)]
pub struct Run {
    /// The request in whose task it began.
    pub request: Option<u64>,
    pub intent: usize,
    pub variant: u8,
    /// Of the record that the handler was told; missing where nothing is protected.
    pub record: Option<RecordKey>,
    pub attempt: u32,
    pub process: ProcessId,
    pub begun_at: Millis,
    /// The labels of its effects, and when.
    pub effects: Vec<(&'static str, Millis)>,
    pub ended: Option<End>,
}

/// A recovery function has decided that an attempt is followed by another one.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    pub record: RecordKey,
    /// The attempt that has crashed.
    pub attempt: u32,
    pub at: Millis,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a response that is to be stored.
    Answered,
    /// With the word that nothing happened.
    NothingHappened,
    Panicked,
    /// With a step that could not be run: its claim is lost, or the store is.
    CutOff,
}

/// Clones are the same.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<Inner>>);

pub struct Inner {
    pub intents: Vec<IntentPlan>,
    pub runs: Vec<Run>,
    pub retries: Vec<Retry>,
    /// How long a recovery function takes, once it has looked.
    pub recovery_takes: Millis,
    rng: Rng,
}

impl Ledger {
    pub fn new(plan: &Plan, rng: Rng) -> Self {
        let burst = (0..plan.burst).map(|_| burst_intent());
        let intents = plan.intents.iter().copied().chain(burst).collect();
        Self(Arc::new(Mutex::new(Inner {
            intents,
            runs: Vec::new(),
            retries: Vec::new(),
            recovery_takes: plan.recovery_takes,
            rng,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        // A handler that panics is part of the history.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn intent(&self, intent: usize) -> IntentPlan {
        self.lock().intents[intent]
    }

    /// Returns the run's number.
    pub fn begin(&self, run: Run) -> usize {
        let mut inner = self.lock();
        inner.runs.push(run);
        inner.runs.len() - 1
    }

    pub fn effect(&self, run: usize, label: &'static str, now: Millis) {
        self.lock().runs[run].effects.push((label, now));
    }

    pub fn end(&self, run: usize, end: End) {
        self.lock().runs[run].ended = Some(end);
    }
}

impl Inner {
    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.percent(percent)
    }
}

/// One of many requests at once: quick, and by a key of its own.
fn burst_intent() -> IntentPlan {
    IntentPlan {
        surface: Surface::Function,
        before: 5,
        after: 0,
        outcome: HandlerOutcome::Done,
        body_bytes: 10,
        on_abandoned: Abandoned::Reject,
        waits: false,
        lease: 30_000,
        ttl: 86_400_000,
        scope: 0,
        key: 100,
        clients: 1,
        is_reused: false,
    }
}
