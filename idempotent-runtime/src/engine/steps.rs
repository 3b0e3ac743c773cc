//! Steps: what a running claim has finished is kept in its record, for the attempt after it.
//!
//! The effect of a step happens between two looks at the store: its result is saved afterwards, and
//! nothing that happens to the save can undo it. So a save that fails is made good by the next one,
//! which carries everything again, and only a claim that is lost ends the handler.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use super::Engine;
use super::calls::lock;
use super::held::ClaimedAs;
use super::leases::LeaseGuard;
use crate::record::RecordState;
use crate::record::progress::{FinishedSteps, MAX_PROGRESS_BYTES, append, encode};
use crate::store::{Claim, Progress, StoreError};

mod error;
mod labels;

pub use error::StepError;
pub(crate) use labels::{Labels, Taken};

/// The steps of one claim. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Steps(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    engine: Engine,
    claim: ClaimedAs,
    attempt: u32,
    lease: Arc<LeaseGuard>,
    /// Empty until an attempt after the first has read what those before it have finished.
    log: OnceCell<Log>,
    /// Held while a save is on its way: they are made one after the other.
    saves: AsyncMutex<Saves>,
    is_lost: AtomicBool,
    is_over: AtomicBool,
}

#[derive(Debug, Default)]
struct Log {
    earlier: FinishedSteps,
    /// How many of the bytes are those.
    earlier_bytes: usize,
    /// The progress as it is to be stored.
    bytes: Mutex<Vec<u8>>,
}

/// How many bytes of the log saves have carried.
#[derive(Debug, Default)]
struct Saves {
    /// Whatever became of it.
    tried: usize,
    done: usize,
}

/// Somebody else has the claim, or nobody.
struct Lost;

/// Why what earlier attempts have finished is not known.
enum Unread {
    Lost,
    Store(StoreError),
}

impl Steps {
    pub(super) fn new(
        engine: &Engine,
        claim: &ClaimedAs,
        attempt: u32,
        lease: &Arc<LeaseGuard>,
    ) -> Self {
        let log = (attempt == 1).then(Log::default);
        Self(Arc::new(Shared {
            engine: engine.clone(),
            claim: claim.clone(),
            attempt,
            lease: Arc::clone(lease),
            log: OnceCell::new_with(log),
            saves: AsyncMutex::default(),
            is_lost: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }))
    }

    /// The result of a step: of an earlier attempt, if one has finished it, or of running it now.
    pub(crate) async fn step<T, E>(
        &self,
        label: Taken<'_>,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StepError<E>>
    where
        T: Serialize + DeserializeOwned,
    {
        let log = match self.log().await {
            Ok(log) => log,
            Err(Unread::Lost) => return Err(StepError::Lost),
            Err(Unread::Store(error)) => return Err(StepError::Unreadable(error)),
        };
        let kept = log.earlier.result::<T>(&label);
        if let Some(result) = kept.map_err(StepError::Unusable)? {
            label.finish();
            return Ok(result);
        }
        // There is always room to say that a step was finished, or it does not begin.
        let bare = encode::<T>(&label, None);
        if log.len() + bare.len() > MAX_PROGRESS_BYTES {
            return Err(StepError::Full(label.to_string()));
        }
        let result = step.await.map_err(StepError::Step)?;
        let end = log.append(&self.encode(&label, &result, log, bare));
        label.finish();
        match self.save(log, end).await {
            Ok(()) => Ok(result),
            Err(Lost) => Err(StepError::Lost),
        }
    }

    /// Whether something is known to have happened under this claim.
    pub(super) fn has_finished(&self) -> bool {
        self.0.log.get().is_some_and(|log| log.len() > 0)
    }

    /// The claim is done with. A handler's clone that is still around saves no more.
    pub(super) fn end(&self) {
        self.0.is_over.store(true, Ordering::Release);
    }

    async fn log(&self) -> Result<&Log, Unread> {
        if self.0.is_lost.load(Ordering::Acquire) {
            return Err(Unread::Lost);
        }
        self.0.log.get_or_try_init(|| self.read()).await
    }

    async fn read(&self) -> Result<Log, Unread> {
        let Shared {
            engine,
            claim,
            attempt,
            ..
        } = &*self.0;
        let record = engine.read(&claim.owner.key).await?;
        // A later attempt's record, a completed one, none at all: in each case this claim is gone.
        let Some(record) = record.filter(|record| {
            record.attempt == *attempt && !matches!(record.state, RecordState::Completed(_))
        }) else {
            self.0.is_lost.store(true, Ordering::Release);
            return Err(Unread::Lost);
        };
        Ok(Log {
            earlier: engine.finished_steps(&record)?,
            earlier_bytes: record.progress.len(),
            bytes: Mutex::new(record.progress.into()),
        })
    }

    /// What cannot be kept leaves that the step was finished: a later attempt must not run it.
    fn encode<T: Serialize>(&self, label: &str, result: &T, log: &Log, bare: Vec<u8>) -> Vec<u8> {
        let record = self.0.claim.owner.key;
        let json = match serde_json::to_string(result) {
            Ok(json) => json,
            Err(error) => {
                tracing::error!(%record, step = label, %error, "the result of a step is not kept");
                return bare;
            }
        };
        let step = encode::<T>(label, Some(&json));
        if log.len() + step.len() > MAX_PROGRESS_BYTES {
            tracing::error!(%record, step = label, bytes = step.len(),
                "the result of a step is not kept: too large");
            return bare;
        }
        step
    }

    /// Returns when a save has carried the log up to `end`, and after one that failed as well: the
    /// effect has happened, and the next save will carry it again.
    async fn save(&self, log: &Log, end: usize) -> Result<(), Lost> {
        let mut saves = self.0.saves.lock().await;
        if self.0.is_lost.load(Ordering::Acquire) {
            return Err(Lost);
        }
        if saves.tried >= end {
            return Ok(());
        }
        self.save_all(log, &mut saves).await
    }

    /// Saves what a save that failed has left, before the claim is given up.
    pub(super) async fn flush(&self) {
        let Some(log) = self.0.log.get() else { return };
        let mut saves = self.0.saves.lock().await;
        if saves.done.max(log.earlier_bytes) < log.len() {
            // If it is lost, there is nobody to tell.
            let _ = self.save_all(log, &mut saves).await;
        }
    }

    async fn save_all(&self, log: &Log, saves: &mut Saves) -> Result<(), Lost> {
        let progress = Bytes::copy_from_slice(&lock(&log.bytes));
        let from = saves.done.max(log.earlier_bytes);
        let saved = match self.try_save(&progress, from).await {
            Ok(saved) => Ok(saved),
            Err(_) => self.try_save(&progress, from).await,
        };
        saves.tried = progress.len();
        match saved {
            Ok(Progress::Saved) => saves.done = progress.len(),
            Ok(Progress::Behind { .. }) => saves.done = 0,
            Ok(Progress::Lost) => {
                self.0.is_lost.store(true, Ordering::Release);
                return Err(Lost);
            }
            Err(error) => {
                let record = self.0.claim.owner.key;
                tracing::warn!(%record, error = &error as &dyn std::error::Error,
                    "could not save a finished step, the next one will carry it");
            }
        }
        Ok(())
    }

    /// If the claim is lost because the store has lost the record, puts it back, as a completion
    /// does.
    async fn try_save(&self, progress: &Bytes, from: usize) -> Result<Progress, StoreError> {
        match self.save_from(progress, from).await? {
            Progress::Lost if !self.0.is_over.load(Ordering::Acquire) => {}
            saved => return Ok(saved),
        }
        let Shared { engine, claim, .. } = &*self.0;
        let request = claim.request(engine.0.retention, None);
        match engine.0.calls.claim(&request).await {
            Ok(Claim::Acquired { .. }) => self.save_from(progress, 0).await,
            // That the claim is not in the store is certain; why need not be.
            _ => Ok(Progress::Lost),
        }
    }

    /// A store that has less than was saved (it has lost something) gets what it misses.
    async fn save_from(&self, progress: &Bytes, from: usize) -> Result<Progress, StoreError> {
        match self.save_once(progress, from).await? {
            Progress::Behind { stored_bytes } => self.save_once(progress, stored_bytes).await,
            saved => Ok(saved),
        }
    }

    async fn save_once(&self, progress: &Bytes, from: usize) -> Result<Progress, StoreError> {
        let Shared { engine, claim, .. } = &*self.0;
        let from = from.min(progress.len());
        let rest = progress.slice(from..);
        engine
            .0
            .calls
            .save_progress(&claim.owner, from, &rest)
            .await
    }
}

impl Log {
    fn len(&self) -> usize {
        lock(&self.bytes).len()
    }

    /// Returns where the step ends.
    fn append(&self, step: &[u8]) -> usize {
        let mut bytes = lock(&self.bytes);
        append(&mut bytes, step);
        bytes.len()
    }
}

impl From<StoreError> for Unread {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
