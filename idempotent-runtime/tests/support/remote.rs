//! A store as a server is one: it is counted what it is asked, its replies take their time, and it can
//! be away.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{
    Claim, ClaimRequest, Completion, Progress, Purged, Release, Renewal, Renewed, Store,
    StoreError, StoreErrorKind, Subscription, Transactor,
};
use idempotent_runtime::{Owner, Record, RecordKey, StoredResponse};
use tokio::sync::Semaphore;

/// How often it was asked to claim and to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) claims: usize,
    pub(crate) gets: usize,
}

impl Calls {
    pub(crate) fn total(self) -> usize {
        self.claims + self.gets
    }
}

#[derive(Clone, Debug)]
pub(crate) struct RemoteStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    memory: MemoryStore,
    calls: Mutex<Calls>,
    next: Mutex<Next>,
    held: Semaphore,
    go: Semaphore,
}

/// What becomes of the next reply.
#[derive(Clone, Copy, Debug)]
enum Next {
    Works,
    /// It is held back, and those after it are not.
    Held,
    /// It gets lost, and those after it too.
    Lost(StoreErrorKind),
}

impl RemoteStore {
    pub(crate) fn new(memory: MemoryStore) -> Self {
        Self(Arc::new(Inner {
            memory,
            calls: Mutex::default(),
            next: Mutex::new(Next::Works),
            held: Semaphore::new(0),
            go: Semaphore::new(0),
        }))
    }

    /// The calls since the last time.
    pub(crate) fn take_calls(&self) -> Calls {
        std::mem::take(&mut *self.0.calls.lock().unwrap())
    }

    /// Holds the next reply back, until [`let_go`](Self::let_go).
    pub(crate) fn hold_replies(&self) {
        *self.0.next.lock().unwrap() = Next::Held;
    }

    /// Waits until a reply is held back: what it tells has happened.
    pub(crate) async fn held(&self) {
        self.0.held.acquire().await.unwrap().forget();
    }

    pub(crate) fn let_go(&self) {
        self.0.go.add_permits(1);
    }

    /// Lets the reply go that is held back, and loses it and those after it.
    pub(crate) fn let_go_and_lose(&self, kind: StoreErrorKind) {
        self.break_off_after(Some(kind));
        self.let_go();
    }

    /// Loses the replies to what it does, or no longer.
    pub(crate) fn break_off_after(&self, kind: Option<StoreErrorKind>) {
        *self.0.next.lock().unwrap() = kind.map_or(Next::Works, Next::Lost);
    }

    fn count(&self, count: impl FnOnce(&mut Calls)) {
        count(&mut self.0.calls.lock().unwrap());
    }

    async fn reply<T>(&self, reply: Result<T, StoreError>) -> Result<T, StoreError> {
        let next = {
            let mut next = self.0.next.lock().unwrap();
            let now = *next;
            if let Next::Held = now {
                *next = Next::Works;
            }
            now
        };
        match next {
            Next::Works => reply,
            Next::Held => {
                self.0.held.add_permits(1);
                self.0.go.acquire().await.unwrap().forget();
                match *self.0.next.lock().unwrap() {
                    Next::Lost(kind) => Err(StoreError::new(self.name(), kind)),
                    Next::Works | Next::Held => reply,
                }
            }
            Next::Lost(kind) => Err(StoreError::new(self.name(), kind)),
        }
    }

    /// One reply for all of a batch.
    async fn replies<T>(&self, results: Vec<Result<T, StoreError>>) -> Vec<Result<T, StoreError>> {
        match self.reply(Ok(())).await {
            Ok(()) => results,
            Err(error) => results.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

#[async_trait]
impl Store for RemoteStore {
    fn name(&self) -> &'static str {
        "remote"
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        self.count(|calls| calls.claims += 1);
        self.reply(self.0.memory.claim(request).await).await
    }

    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        self.replies(self.0.memory.renew(renewals).await).await
    }

    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        let saved = self.0.memory.save_progress(owner, offset, bytes).await;
        self.reply(saved).await
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        let completed = self.0.memory.complete(owner, response, ttl).await;
        self.reply(completed).await
    }

    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.replies(self.0.memory.release(owners).await).await
    }

    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.replies(self.0.memory.abandon(owners).await).await
    }

    async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let memory = &self.0.memory;
        let given = memory.give_grace(key, attempt, grace, retention).await;
        self.reply(given).await
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.count(|calls| calls.gets += 1);
        self.reply(self.0.memory.get(key).await).await
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        self.reply(self.0.memory.remove(key).await).await
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        self.reply(self.0.memory.purge_expired(limit).await).await
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        self.0.memory.subscribe(key)
    }

    fn transactor(&self) -> Option<Transactor> {
        None
    }
}
