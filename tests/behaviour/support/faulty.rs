use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use idempotent_runtime::store::{
    Claim, ClaimRequest, Completion, Release, Renewal, Store, StoreError, StoreErrorKind,
    Subscription,
};
use idempotent_runtime::{Owner, Record, RecordKey, StoredResponse};
use tokio::sync::Semaphore;

/// The operations that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Claim,
    Renew,
    Complete,
    Release,
}

/// How one call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens, and the caller is told.
    Refused(StoreErrorKind),
    /// It happens, and the caller is told that it may not have.
    ReplyLost,
    /// It happens, and the caller is never told anything.
    Hangs,
    /// It waits until the test says [`FaultyStore::proceed`], and then works.
    Waits,
    /// Nothing out of the ordinary.
    Works,
}

/// A store whose next calls fail as scripted; each operation has its own script.
#[derive(Clone, Debug)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    script: Arc<Mutex<VecDeque<(Operation, Fault)>>>,
    calls: Arc<Mutex<Vec<Operation>>>,
    waiting: Arc<Semaphore>,
    proceed: Arc<Semaphore>,
}

impl FaultyStore {
    pub fn new(inner: impl Store) -> Self {
        Self {
            inner: Arc::new(inner),
            script: Arc::default(),
            calls: Arc::default(),
            waiting: Arc::new(Semaphore::new(0)),
            proceed: Arc::new(Semaphore::new(0)),
        }
    }

    /// The next unscripted call of this operation goes like this.
    pub fn script(&self, operation: Operation, fault: Fault) {
        self.script.lock().unwrap().push_back((operation, fault));
    }

    /// Waits until a call waits.
    pub async fn waiting(&self) {
        self.waiting.acquire().await.unwrap().forget();
    }

    /// Lets a call that waits go on.
    pub fn proceed(&self) {
        self.proceed.add_permits(1);
    }

    /// How often an operation was called.
    pub fn calls(&self, operation: Operation) -> usize {
        self.calls
            .lock()
            .unwrap()
            .iter()
            .filter(|call| **call == operation)
            .count()
    }

    fn next(&self, operation: Operation) -> Fault {
        self.calls.lock().unwrap().push(operation);
        let mut script = self.script.lock().unwrap();
        let scripted = script
            .iter()
            .position(|(scripted, _)| *scripted == operation);
        scripted
            .and_then(|index| script.remove(index))
            .map_or(Fault::Works, |(_, fault)| fault)
    }

    async fn call<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match self.next(operation) {
            Fault::Works => call.await,
            Fault::Refused(kind) => Err(StoreError::new("faulty", kind)),
            Fault::ReplyLost => {
                call.await?;
                Err(StoreError::new("faulty", StoreErrorKind::Unavailable))
            }
            Fault::Waits => {
                self.waiting.add_permits(1);
                self.proceed.acquire().await.unwrap().forget();
                call.await
            }
            Fault::Hangs => {
                call.await?;
                std::future::pending().await
            }
        }
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn name(&self) -> &'static str {
        "faulty"
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Claim, StoreError> {
        self.call(Operation::Claim, self.inner.claim(request)).await
    }

    async fn renew(&self, renewals: &[Renewal]) -> Result<Vec<Owner>, StoreError> {
        self.call(Operation::Renew, self.inner.renew(renewals))
            .await
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
    ) -> Result<Completion, StoreError> {
        self.call(Operation::Complete, self.inner.complete(owner, response))
            .await
    }

    async fn release(&self, owner: &Owner) -> Result<Release, StoreError> {
        self.call(Operation::Release, self.inner.release(owner))
            .await
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.inner.get(key).await
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        self.inner.remove(key).await
    }

    async fn purge_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.inner.purge_expired(limit).await
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        self.inner.subscribe(key)
    }
}
