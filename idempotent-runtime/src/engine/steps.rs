//! Steps: what a running claim has finished is kept in its record, for the attempt after it.
//!
//! The effect of a step happens between two looks at the store: its result is saved afterwards, and
//! nothing that happens to the save can undo it. So a save that fails is made good by the next one,
//! which carries it too, and only a claim that is lost ends the handler.
//!
//! A step has effects, so it does not begin where this process can know that the claim may be another
//! attempt's: once the run is over, and once its lease is not known to last unless the store says so.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};
use tokio::time::Instant;

use super::claim_terms::ClaimTerms;
use super::{Engine, finished_steps};
use crate::exact;
use crate::record::progress::{Finished, MAX_PROGRESS_BYTES};
use crate::record::{Owner, RecordState};
use crate::store::{Claim, Progress, Renewal, Renewed, StoreError};

mod error;
mod labels;
mod lease;
mod log;
#[cfg(feature = "memory")]
#[cfg(test)]
mod tests;

pub use error::StepError;
pub(crate) use labels::{Labels, Taken};
pub(super) use lease::LeaseView;
use log::{Log, Unsaid};

/// The steps of one claim. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Steps(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    engine: Engine,
    claim: ClaimTerms,
    attempt: u32,
    /// The claims of the same request under other secrets, and their attempts.
    aliases: Vec<(Owner, u32)>,
    lease: LeaseView,
    /// Empty until an attempt after the first has read what those before it have finished.
    log: OnceCell<Log>,
    /// Held while a save is on its way: they are made one after the other.
    saves: AsyncMutex<Saves>,
    is_lost: AtomicBool,
    is_over: AtomicBool,
}

/// How many bytes of the log saves have carried.
#[derive(Debug, Default)]
struct Saves {
    /// Whatever became of it.
    tried: usize,
    /// Into the store's record.
    done: usize,
    /// Into those of the aliases, of which each has a beginning of the log, or is left alone.
    aliases: Vec<(Owner, usize)>,
}

/// Another attempt has the claim, or none has.
struct Lost;

/// Why it is not known whether a step may begin.
#[derive(Debug)]
enum Unread {
    Lost,
    Store(StoreError),
}

impl Steps {
    pub(super) fn new(
        engine: &Engine,
        claim: &ClaimTerms,
        attempt: u32,
        aliases: Vec<(Owner, u32)>,
        lease: LeaseView,
    ) -> Self {
        let is_first = attempt == 1 && aliases.iter().all(|(_, attempt)| *attempt == 1);
        let log = is_first.then(Log::default);
        let saves = Saves {
            aliases: aliases.iter().map(|(owner, _)| (*owner, 0)).collect(),
            ..Saves::default()
        };
        Self(Arc::new(Shared {
            engine: engine.clone(),
            claim: claim.clone(),
            attempt,
            aliases,
            lease,
            log: OnceCell::new_with(log),
            saves: AsyncMutex::new(saves),
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
        let log = self.log().await?;
        let earlier = log.earlier.result::<T>(&label);
        if let Some(result) = earlier.map_err(StepError::Unusable)? {
            label.finish();
            return Ok(result);
        }
        let (result, end) = match log.unsaid(&label) {
            Some(Unsaid { step, end }) => (step.result().map_err(StepError::Unusable)?, end),
            None => self.run(log, &label, step).await?,
        };
        self.save(log, end).await?;
        log.say(&label);
        label.finish();
        Ok(result)
    }

    /// Runs a step that no attempt has finished, and says where it ends in the log.
    async fn run<T: Serialize, E>(
        &self,
        log: &Log,
        label: &str,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<(T, usize), StepError<E>> {
        // There is always room to say that a step was finished, or it does not begin.
        let bare = Finished::new::<T>(label, None);
        if log.len() + bare.encode().len() > MAX_PROGRESS_BYTES {
            return Err(StepError::Full(label.to_owned()));
        }
        self.make_sure_of_lease().await?;
        let result = step.await.map_err(StepError::Step)?;
        let end = log.append(label, self.finished(label, &result, log, bare));
        Ok((result, end))
    }

    /// Whether something is known to have happened under this claim.
    pub(super) fn has_finished(&self) -> bool {
        self.0.log.get().is_some_and(|log| log.len() > 0)
    }

    /// The claim is done with. A handler's clone that is still around runs no step and saves no more.
    pub(super) fn end(&self) {
        self.0.is_over.store(true, Ordering::Release);
    }

    fn is_gone(&self) -> bool {
        self.0.is_lost.load(Ordering::Acquire) || self.0.is_over.load(Ordering::Acquire)
    }

    async fn log(&self) -> Result<&Log, Unread> {
        if self.is_gone() {
            return Err(Unread::Lost);
        }
        self.0.log.get_or_try_init(|| self.read()).await
    }

    /// The last thing before a step begins. A process that stood still does not know by itself that
    /// another attempt is at it, but it knows that it stood still for longer than its lease.
    async fn make_sure_of_lease(&self) -> Result<(), Unread> {
        if !self.is_gone() && !self.0.lease.is_known_to_last() {
            self.renew_lease().await?;
        }
        match self.is_gone() {
            true => Err(Unread::Lost),
            false => Ok(()),
        }
    }

    async fn renew_lease(&self) -> Result<(), Unread> {
        let Shared { engine, claim, .. } = &*self.0;
        let asked_at = Instant::now();
        let renewal = Renewal {
            owner: claim.owner,
            lease: claim.lease,
            retention: engine.0.retention,
        };
        let mut results = engine.0.calls.renew(&[renewal]).await;
        if results.pop().unwrap_or(Ok(Renewed::Lost))? == Renewed::Lost {
            let mut saves = self.0.saves.lock().await;
            match self.claim_again().await? {
                // The store had lost the record, and has none of the steps now.
                Claim::Acquired { .. } => (saves.tried, saves.done) = (0, 0),
                _ => self.0.is_lost.store(true, Ordering::Release),
            }
        }
        self.0.lease.lasts_until(asked_at + claim.lease);
        Ok(())
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
        let done = record.progress.len();
        let mut longest = record;
        let mut aliases = Vec::new();
        for (owner, attempt) in &self.0.aliases {
            // An attempt under another secret has saved what it finished in the record that it knows.
            let found = engine.read(&owner.key).await?.filter(|found| {
                found.attempt == *attempt && !matches!(found.state, RecordState::Completed(_))
            });
            if let Some(found) = found {
                aliases.push((*owner, found.progress.clone()));
                if found.progress.starts_with(&longest.progress) {
                    longest = found;
                }
            }
        }
        let earlier = finished_steps(engine, &longest)?;
        aliases.retain(|(_, progress)| longest.progress.starts_with(progress));
        let aliases = aliases.into_iter().map(|(owner, it)| (owner, it.len()));
        let mut saves = self.0.saves.lock().await;
        saves.done = done;
        saves.aliases = aliases.collect();
        Ok(Log {
            earlier,
            bytes: Mutex::new(longest.progress.into()),
            unsaid: Mutex::default(),
        })
    }

    /// What cannot be kept leaves that the step was finished: a later attempt must not run it.
    fn finished<T: Serialize>(
        &self,
        label: &str,
        result: &T,
        log: &Log,
        bare: Finished,
    ) -> Finished {
        let record = self.0.claim.owner.key;
        let json = match exact::to_string(result) {
            Ok(json) => json,
            Err(error) => {
                tracing::error!(%record, step = label, %error, "the result of a step is not kept");
                return bare;
            }
        };
        let step = Finished::new::<T>(label, Some(json));
        let bytes = step.encode().len();
        if log.len() + bytes > MAX_PROGRESS_BYTES {
            tracing::error!(%record, step = label, bytes,
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
        if saves.done < log.len() {
            // If it is lost, there is no caller to tell.
            let _ = self.save_all(log, &mut saves).await;
        }
    }

    /// Saves what was appended since the last save that succeeded.
    async fn save_all(&self, log: &Log, saves: &mut Saves) -> Result<(), Lost> {
        self.save_aliases(log, saves).await;
        let unsaved = saves.done..log.len();
        let saved = match self.try_save(log, unsaved.clone()).await {
            Ok(saved) => Ok(saved),
            Err(_) => self.try_save(log, unsaved.clone()).await,
        };
        saves.tried = unsaved.end;
        match saved {
            Ok(Progress::Saved) => saves.done = unsaved.end,
            Ok(Progress::Behind { stored_bytes }) => saves.done = stored_bytes,
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

    /// What cannot be saved there is carried by the next save; the claim is this request's first record's.
    async fn save_aliases(&self, log: &Log, saves: &mut Saves) {
        let calls = &self.0.engine.0.calls;
        for (owner, done) in &mut saves.aliases {
            let end = log.len();
            let bytes = log.copy(*done..end);
            match calls.save_progress(owner, *done, &bytes).await {
                Ok(Progress::Saved) => *done = end,
                Ok(Progress::Behind { stored_bytes }) => *done = stored_bytes,
                Ok(Progress::Lost) | Err(_) => {}
            }
        }
    }

    /// If the claim is lost because the store has lost the record, puts it back, as a completion
    /// does.
    async fn try_save(&self, log: &Log, unsaved: Range<usize>) -> Result<Progress, StoreError> {
        match self.save_range(log, unsaved.clone()).await? {
            Progress::Lost if !self.0.is_over.load(Ordering::Acquire) => {}
            saved => return Ok(saved),
        }
        match self.claim_again().await {
            // It has none of the steps now.
            Ok(Claim::Acquired { .. }) => self.save_range(log, 0..unsaved.end).await,
            // That the claim is not in the store is certain; why need not be.
            _ => Ok(Progress::Lost),
        }
    }

    /// Asks for a claim that was lost: if the store has lost the record, it is put back.
    async fn claim_again(&self) -> Result<Claim, StoreError> {
        let Shared { engine, claim, .. } = &*self.0;
        claim.ask(&engine.0.calls, engine.0.retention, None).await
    }

    /// A store that has less than was saved (it has lost something) gets what it misses.
    async fn save_range(&self, log: &Log, unsaved: Range<usize>) -> Result<Progress, StoreError> {
        match self.save_once(log, unsaved.clone()).await? {
            Progress::Behind { stored_bytes } => {
                self.save_once(log, stored_bytes..unsaved.end).await
            }
            saved => Ok(saved),
        }
    }

    async fn save_once(&self, log: &Log, unsaved: Range<usize>) -> Result<Progress, StoreError> {
        let Shared { engine, claim, .. } = &*self.0;
        let bytes = log.copy(unsaved.clone());
        let calls = &engine.0.calls;
        calls
            .save_progress(&claim.owner, unsaved.start, &bytes)
            .await
    }
}

impl<E> From<Unread> for StepError<E> {
    fn from(reason: Unread) -> Self {
        match reason {
            Unread::Lost => Self::Lost,
            Unread::Store(error) => Self::Unreadable(error),
        }
    }
}

impl<E> From<Lost> for StepError<E> {
    fn from(_: Lost) -> Self {
        Self::Lost
    }
}

impl From<StoreError> for Unread {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
