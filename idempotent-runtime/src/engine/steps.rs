//! Steps: what a running claim has finished is kept in its record, for the attempt after it.
//!
//! The effect of a step happens between two looks at the store: its result is saved afterwards, and
//! nothing that happens to the save can undo it. So a save that fails is made good by the next one,
//! which carries it too, and only a claim that is lost ends the handler.
//!
//! A step has effects, so it does not begin where this process can know that the claim may be another
//! attempt's: once the run is over, and once its lease is not known to last unless the store says so.
//!
//! A step is a future of the handler's, which may poll it no more, or drop it. So what it asks the store is asked in a task of
//! its own: nothing that another step waits for is held by one that is not polled. Only on a runtime that the handler drives itself it is
//! asked in place: the runtime of the request may stand still until the handler returns.
//!
//! While a secret is rotated a request has several records, and each of them counts: what knows only one of them
//! finds there all that was finished, and a claim that is lost in one of them is lost.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};
use tokio::time::{Instant, timeout};

use super::{Engine, Known};
use crate::exact;
use crate::key::RecordKey;
use crate::prompt;
use crate::record::Record;
use crate::record::progress::{Finished, MAX_PROGRESS_BYTES, begins_with};
use crate::store::{Renewed, StoreError, StoreErrorKind};

mod error;
mod held;
mod identity;
mod labels;
mod log;
mod saves;
#[cfg(feature = "memory")]
#[cfg(test)]
mod tests;

pub use error::StepError;
pub(super) use held::Held;
pub(crate) use labels::{Labels, Taken};
use log::{Log, Unsaid};
use saves::{Lost, Saves};

/// The steps of one claim. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Steps(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    engine: Engine,
    held: Held,
    /// The same under other secrets.
    aliases: Box<[Held]>,
    /// Empty until an attempt after the first has read what those before it have finished, before its handler begins.
    log: OnceCell<Log>,
    /// What the handler is told as its record key, where that was asked.
    identity: OnceLock<RecordKey>,
    /// Steps of which nothing is known: they run, were dropped while they did, or could not begin because the store did not
    /// say whether they may.
    in_doubt: AtomicUsize,
    /// Held while a save is on its way: they are made one after the other.
    saves: AsyncMutex<Saves>,
    is_lost: AtomicBool,
    /// No step begins any more.
    has_ended: AtomicBool,
    /// The claim is being given up, or has a response.
    is_over: AtomicBool,
}

impl Shared {
    fn all_held(&self) -> impl Iterator<Item = &Held> {
        std::iter::once(&self.held).chain(&self.aliases)
    }
}

/// Why it is not known whether a step may begin.
#[derive(Debug)]
pub(super) enum Unread {
    Lost,
    Store(StoreError),
}

impl Steps {
    pub(super) fn new(engine: &Engine, held: Held, aliases: Box<[Held]>) -> Self {
        let is_first = held.attempt == 1 && aliases.iter().all(|alias| alias.attempt == 1);
        let log = is_first.then(|| Log::first(!aliases.is_empty()));
        let saves = Saves {
            done: vec![log.as_ref().map(Log::len); 1 + aliases.len()],
            ..Saves::default()
        };
        Self(Arc::new(Shared {
            engine: engine.clone(),
            held,
            aliases,
            log: OnceCell::new_with(log),
            identity: OnceLock::new(),
            in_doubt: AtomicUsize::new(0),
            saves: AsyncMutex::new(saves),
            is_lost: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
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
        if self.is_gone() {
            return Err(StepError::Lost);
        }
        let log = self.log()?;
        let earlier = log.earlier.result::<T>(&label);
        if let Some(result) = earlier.map_err(StepError::Unusable)? {
            label.finish();
            return Ok(result);
        }
        let (result, end) = match log.unsaid(&label) {
            Some(Unsaid { step, end }) => (step.result().map_err(StepError::Unusable)?, end),
            None => self.run(log, &label, step).await?,
        };
        self.make_sure_of(end).await?;
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
        // Until it has failed or is in the log; if it is dropped, for good.
        self.0.in_doubt.fetch_add(1, Ordering::SeqCst);
        // Either this sees that the run has ended, or what ends it sees this.
        let ended = if self.is_gone() {
            Err(StepError::Lost)
        } else {
            let result = step.await.map_err(StepError::Step);
            result.map(|result| {
                let finished = self.finished(label, &result);
                (result, self.append(log, label, finished, bare))
            })
        };
        self.0.in_doubt.fetch_sub(1, Ordering::SeqCst);
        ended
    }

    /// No step begins from here on. Whether something is known to have happened under this claim, or may have happened in its
    /// steps.
    pub(super) fn close(&self) -> bool {
        self.0.has_ended.store(true, Ordering::SeqCst);
        let has_finished = self.0.log.get().is_some_and(Log::has_steps);
        has_finished || self.0.in_doubt.load(Ordering::SeqCst) > 0
    }

    /// The claim is done with. A handler's clone that is still around runs no step and saves no more.
    pub(super) fn end(&self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }

    fn is_gone(&self) -> bool {
        self.0.is_lost.load(Ordering::Acquire)
            || self.0.has_ended.load(Ordering::SeqCst)
            || self.0.is_over.load(Ordering::SeqCst)
    }

    fn log(&self) -> Result<&Log, Unread> {
        self.0.log.get().ok_or(Unread::Lost)
    }

    /// Goes on with work in a task of its own, whether or not this is polled on. What is done at once needs none.
    async fn in_task<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let here = Handle::current();
        let mut work = Box::pin(tracing::Instrument::in_current_span(work));
        // A handler that drives a runtime of its own drives what it has begun there, and nothing else does.
        if here.id() != self.0.held.lease.runtime().id() {
            return Ok(work.await);
        }
        if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            return Ok(done);
        }
        let task = prompt::spawn(&here, work);
        // A runtime that ends drops it.
        let ended = |_| self.0.engine.0.calls.error(StoreErrorKind::Unavailable);
        task.await.map_err(ended)
    }

    /// The last thing before a step begins. A process that stood still does not know by itself that
    /// another attempt is at it, but it knows that it stood still for longer than its lease.
    async fn make_sure_of_lease(&self) -> Result<(), Unread> {
        let is_known_to_last = || self.0.all_held().all(|held| held.lease.is_known_to_last());
        if !self.is_gone() && !is_known_to_last() {
            let steps = self.clone();
            let renewing = async move { steps.renew_lease().await };
            let renewed = self.in_task(renewing).await.map_err(Unread::Store);
            if let Err(unread) = renewed.and_then(|renewed| renewed) {
                // The handler has run until here, and may have done anything outside of its steps.
                self.0.in_doubt.fetch_add(1, Ordering::SeqCst);
                return Err(unread);
            }
        }
        match self.is_gone() {
            true => Err(Unread::Lost),
            false => Ok(()),
        }
    }

    async fn renew_lease(&self) -> Result<(), Unread> {
        let engine = &self.0.engine;
        let asked_at = Instant::now();
        let renewals = self.0.all_held().map(|held| held.claim.renewal());
        let renewals: Vec<_> = renewals.collect();
        let results = engine.0.calls.renew(&renewals).await;
        for (number, (held, result)) in self.0.all_held().zip(results).enumerate() {
            if result? == Renewed::Renewed {
                held.lease.renewed(asked_at);
                continue;
            }
            let mut saves = self.0.saves.lock().await;
            if held.regain(&self.0).await? {
                // The store had lost the record, and has none of the steps now.
                saves.begin_anew(number);
            } else {
                self.0.is_lost.store(true, Ordering::Release);
            }
        }
        Ok(())
    }

    async fn read(&self) -> Result<Log, Unread> {
        let mut records = Vec::new();
        for held in self.0.all_held() {
            records.push((held.claim.owner.key, self.read_one(held).await?));
        }
        let known = Known::read(&self.0.engine, &records)?;
        let done = records.iter().map(|(_, Record { progress, .. })| {
            begins_with(&known.progress, progress).then_some(progress.len())
        });
        self.0.saves.lock().await.done = done.collect();
        Ok(Log::after(known, !self.0.aliases.is_empty()))
    }

    async fn read_one(&self, held: &Held) -> Result<Record, Unread> {
        let record = held.read(&self.0.engine).await?;
        record.ok_or_else(|| {
            self.0.is_lost.store(true, Ordering::Release);
            Unread::Lost
        })
    }

    /// None for a result that cannot be kept.
    fn finished<T: Serialize>(&self, label: &str, result: &T) -> Option<Finished> {
        match exact::to_string(result) {
            Ok(json) => Some(Finished::new::<T>(label, Some(json))),
            Err(error) => {
                let record = self.0.held.claim.owner.key;
                tracing::error!(%record, step = label, %error, "the result of a step is not stored");
                None
            }
        }
    }

    /// Returns where the step ends. What cannot be kept leaves that the step was finished: a later attempt must not run it.
    fn append(&self, log: &Log, label: &str, finished: Option<Finished>, bare: Finished) -> usize {
        let Some(finished) = finished else {
            return log.append(label, bare);
        };
        log.append_if_it_fits(label, finished)
            .unwrap_or_else(|bytes| {
                let record = self.0.held.claim.owner.key;
                tracing::error!(%record, step = label, bytes,
                "the result of a step is not stored: too large");
                log.append(label, bare)
            })
    }

    /// Returns when a save has carried the log up to `end`, and after one that failed as well: the
    /// effect has happened, and the next save will carry it again.
    async fn make_sure_of(&self, end: usize) -> Result<(), Lost> {
        let steps = self.clone();
        let saving = async move {
            match steps.log() {
                Ok(log) => steps.save(log, end).await,
                Err(_) => Err(Lost),
            }
        };
        self.in_task(saving).await.unwrap_or(Ok(()))
    }

    async fn save(&self, log: &Log, end: usize) -> Result<(), Lost> {
        let mut saves = self.0.saves.lock().await;
        if self.0.is_lost.load(Ordering::Acquire) {
            return Err(Lost);
        }
        if saves.tried >= end {
            return Ok(());
        }
        saves.save_all(&self.0, log).await
    }

    /// Saves what a save that failed has left, before the claim is given up.
    pub(super) async fn flush(&self) {
        let Some(log) = self.0.log.get() else { return };
        let longest = self.0.engine.0.calls.limit() * 3;
        // On a runtime of the handler's own a save may be on its way that nothing polls any more.
        let Ok(mut saves) = timeout(longest, self.0.saves.lock()).await else {
            let record = self.0.held.claim.owner.key;
            tracing::error!(%record, "a save of finished steps does not end: the latest of them may run again");
            return;
        };
        // If it is lost, there is no caller to tell.
        let _ = saves.save_all(&self.0, log).await;
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

impl From<Lost> for Unread {
    fn from(_: Lost) -> Self {
        Self::Lost
    }
}

impl From<StoreError> for Unread {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
