//! [`FaultyStore`]: a store that fails when a test says so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::key::RecordKey;
use crate::record::{Owner, Record, StoredResponse};
use crate::store::{
    Claim, ClaimRequest, Completion, ListCursor, ListFilter, Listing, Progress, Purged, Release,
    Renewal, Renewed, Store, StoreError, StoreErrorKind, Subscription, Transactor,
};

/// The name that errors have.
const NAME: &str = "faulty";

/// A store around another one, whose calls fail when a test says so.
///
/// Clones share the store and its faults: give one to the [builder](super::builder), and keep one to set the faults.
///
/// ```
/// use idempotent_runtime::store::memory::MemoryStore;
/// use idempotent_runtime::testing::{self, FaultyStore, Operation};
///
/// let store = FaultyStore::new(MemoryStore::new());
/// let idempotency = testing::builder(store.clone()).build();
/// // The response of the next request is stored, and the service does not learn of it.
/// store.lose_replies(Operation::Complete, 1);
/// // The next request is answered 503, and its handler does not run.
/// store.refuse(Operation::Claim, 1);
/// # drop(idempotency);
/// ```
///
/// It has no faults for `#[tx]`: transactions are those of the store inside, and do not fail.
#[derive(Clone, Debug)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Arc<Mutex<Faults>>,
}

/// The store operations of a request: the methods of [`Store`] that change or read a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// [`Store::claim`].
    Claim,
    /// [`Store::renew`].
    Renew,
    /// [`Store::save_progress`], at the end of a step.
    SaveProgress,
    /// [`Store::complete`].
    Complete,
    /// [`Store::release`].
    Release,
    /// [`Store::abandon`].
    Abandon,
    /// [`Store::give_grace`].
    GiveGrace,
    /// [`Store::get`].
    Get,
}

#[derive(Debug, Default)]
struct Faults {
    script: VecDeque<(Operation, Fate)>,
    is_down: bool,
    delay: Duration,
    calls: Vec<Operation>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Works,
    Refused,
    ReplyLost,
}

impl FaultyStore {
    /// Wraps a store. No operation fails yet.
    pub fn new(store: impl Store) -> Self {
        Self {
            inner: Arc::new(store),
            faults: Arc::default(),
        }
    }

    /// The next `times` calls of this operation fail with [`StoreErrorKind::Unavailable`]: **nothing happens**, and the
    /// caller knows.
    pub fn refuse(&self, operation: Operation, times: usize) {
        self.script(operation, times, Fate::Refused);
    }

    /// The next `times` calls of this operation fail with [`StoreErrorKind::Unavailable`] **after they have happened**:
    /// the reply is lost, and the caller cannot know.
    pub fn lose_replies(&self, operation: Operation, times: usize) {
        self.script(operation, times, Fate::ReplyLost);
    }

    /// Every operation is refused from now on, until [`recover`](Self::recover).
    pub fn refuse_everything(&self) {
        self.faults().is_down = true;
    }

    /// From now on nothing fails, and nothing is delayed.
    pub fn recover(&self) {
        let mut faults = self.faults();
        faults.script.clear();
        faults.is_down = false;
        faults.delay = Duration::ZERO;
    }

    /// From now on every operation takes this long, on tokio's clock, before it happens or fails. If that is longer
    /// than the [store timeout](crate::IdempotencyBuilder::store_timeout) (2 s), the caller gives up, and the operation
    /// does not happen.
    pub fn delay(&self, delay: Duration) {
        self.faults().delay = delay;
    }

    /// How often an operation was called, failed calls included.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> usize {
        let faults = self.faults();
        faults.calls.iter().filter(|it| **it == operation).count()
    }

    fn script(&self, operation: Operation, times: usize, fate: Fate) {
        let calls = std::iter::repeat_n((operation, fate), times);
        self.faults().script.extend(calls);
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what no request calls for.
    fn refuse_if_down(&self) -> Result<(), StoreError> {
        match self.faults().is_down {
            true => Err(unavailable().not_executed()),
            false => Ok(()),
        }
    }

    /// Says what becomes of a call that may happen.
    async fn enter(&self, operation: Operation) -> Result<Fate, StoreError> {
        let delay = self.faults().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut faults = self.faults();
        faults.calls.push(operation);
        let fate = match faults.is_down {
            true => Fate::Refused,
            false => faults.next(operation),
        };
        match fate {
            Fate::Works | Fate::ReplyLost => Ok(fate),
            Fate::Refused => Err(unavailable().not_executed()),
        }
    }
}

impl Faults {
    fn next(&mut self, operation: Operation) -> Fate {
        let scripted = self.script.iter().position(|(it, _)| *it == operation);
        let scripted = scripted.and_then(|index| self.script.remove(index));
        scripted.map_or(Fate::Works, |(_, fate)| fate)
    }
}

impl Fate {
    fn reply<T>(self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match self {
            Self::ReplyLost => Err(unavailable()),
            Self::Works | Self::Refused => result,
        }
    }
}

fn unavailable() -> StoreError {
    StoreError::new(NAME, StoreErrorKind::Unavailable)
}

/// The results of a batch, which fails as a whole.
fn each<T>(fate: Fate, results: Vec<Result<T, StoreError>>) -> Vec<Result<T, StoreError>> {
    results.into_iter().map(|it| fate.reply(it)).collect()
}

fn refused<T>(error: &StoreError, items: usize) -> Vec<Result<T, StoreError>> {
    (0..items).map(|_| Err(error.clone())).collect()
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for FaultyStore {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        let fate = self.enter(Operation::Claim).await?;
        fate.reply(self.inner.claim(request).await)
    }

    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        match self.enter(Operation::Renew).await {
            Ok(fate) => each(fate, self.inner.renew(renewals).await),
            Err(error) => refused(&error, renewals.len()),
        }
    }

    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        let fate = self.enter(Operation::SaveProgress).await?;
        fate.reply(self.inner.save_progress(owner, offset, bytes).await)
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        let fate = self.enter(Operation::Complete).await?;
        fate.reply(self.inner.complete(owner, response, ttl).await)
    }

    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        match self.enter(Operation::Release).await {
            Ok(fate) => each(fate, self.inner.release(owners).await),
            Err(error) => refused(&error, owners.len()),
        }
    }

    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        match self.enter(Operation::Abandon).await {
            Ok(fate) => each(fate, self.inner.abandon(owners).await),
            Err(error) => refused(&error, owners.len()),
        }
    }

    async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let fate = self.enter(Operation::GiveGrace).await?;
        let given = self.inner.give_grace(key, attempt, grace, retention);
        fate.reply(given.await)
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let fate = self.enter(Operation::Get).await?;
        fate.reply(self.inner.get(key).await)
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        self.refuse_if_down()?;
        self.inner.remove(key).await
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        self.refuse_if_down()?;
        self.inner.purge_expired(limit).await
    }

    async fn list(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        self.refuse_if_down()?;
        self.inner.list(filter, cursor, limit).await
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        self.inner.subscribe(key)
    }

    fn transactor(&self) -> Option<Transactor> {
        self.inner.transactor()
    }
}
