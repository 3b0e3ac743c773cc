use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{
    Claim, ClaimRequest, Completion, ListCursor, ListFilter, Listing, Progress, Purged, Release,
    Renewal, Renewed, Store, StoreError, StoreErrorKind, Subscription, Transactor,
};
use idempotent_runtime::{ManualClock, Owner, Record, RecordKey, StoredResponse};
use tokio::sync::Semaphore;

/// The operations that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Claim,
    Renew,
    SaveProgress,
    Complete,
    Release,
    Abandon,
    GiveGrace,
    Get,
    Remove,
    List,
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
    /// Nothing happens, and the caller is never told anything.
    Swallowed,
    /// It happens when the test says [`FaultyStore::proceed`], and the caller is never told anything.
    Late,
    /// Nothing happens but a panic.
    Panics,
    /// It happens, and then there is a panic.
    PanicsAfterwards,
    /// Nothing happens but a panic, outside of any future. Of renewals only.
    PanicsBeforeItsFuture,
    /// The store says that it has no such claim, though it has. Of renewals only.
    Denied,
    /// It waits until the test says [`FaultyStore::proceed`], and then works.
    Waits,
    /// It happens, and the caller is told when the test says [`FaultyStore::proceed`].
    ReplyWaits,
    /// Nothing out of the ordinary.
    Works,
}

/// A store whose next calls fail as scripted; each operation has its own script.
#[derive(Clone, Debug)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    script: Arc<Mutex<VecDeque<(Operation, Fault)>>>,
    calls: Arc<Mutex<Vec<Operation>>>,
    progress_bytes: Arc<Mutex<usize>>,
    claimed: Arc<Mutex<Option<RecordKey>>>,
    waiting: Arc<Semaphore>,
    proceed: Arc<Semaphore>,
    refuses_bodies: bool,
    delay: Duration,
    locked: Arc<Mutex<Option<RecordKey>>>,
    gives_notifications: bool,
    is_certain: bool,
}

impl FaultyStore {
    pub fn new(inner: impl Store) -> Self {
        Self {
            inner: Arc::new(inner),
            script: Arc::default(),
            calls: Arc::default(),
            progress_bytes: Arc::default(),
            claimed: Arc::default(),
            waiting: Arc::new(Semaphore::new(0)),
            proceed: Arc::new(Semaphore::new(0)),
            refuses_bodies: false,
            delay: Duration::ZERO,
            locked: Arc::default(),
            gives_notifications: true,
            is_certain: false,
        }
    }

    /// A memory store by a clock that stands still unless the test moves it. Who has let a lease end is
    /// certainly dead: it gets no grace, for which time would have to pass.
    pub fn certain(clock: &Arc<ManualClock>) -> Self {
        let memory = MemoryStore::builder().clock(Arc::clone(clock) as _).build();
        Self {
            is_certain: true,
            ..Self::new(memory)
        }
    }

    /// Takes no response that has a body, ever.
    pub fn refusing_bodies(self) -> Self {
        Self {
            refuses_bodies: true,
            ..self
        }
    }

    /// Takes this long for each operation, on tokio's clock.
    pub fn slow(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// A call that would renew the lease of this record hangs from now on, with all that it carries.
    pub fn lock(&self, key: RecordKey) {
        *self.locked.lock().unwrap() = Some(key);
    }

    /// Tells no waiter of a change: each has to look.
    pub fn without_notifications(self) -> Self {
        Self {
            gives_notifications: false,
            ..self
        }
    }

    async fn renew_later(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        let (inner, renewals) = (Arc::clone(&self.inner), renewals.to_vec());
        let items = renewals.len();
        let locked = *self.locked.lock().unwrap();
        if renewals.iter().any(|it| Some(it.owner.key) == locked) {
            return std::future::pending().await;
        }
        let renew = async move { inner.renew(&renewals).await };
        self.call_each(Operation::Renew, items, renew).await
    }

    /// The next unscripted call of this operation goes like this.
    pub fn script(&self, operation: Operation, fault: Fault) {
        self.script.lock().unwrap().push_back((operation, fault));
    }

    /// Scripts the same several times over.
    pub fn script_times(&self, times: usize, operation: Operation, fault: Fault) {
        for _ in 0..times {
            self.script(operation, fault);
        }
    }

    /// What is left of this operation's script is forgotten.
    pub fn unscript(&self, operation: Operation) {
        let mut script = self.script.lock().unwrap();
        script.retain(|(scripted, _)| *scripted != operation);
    }

    /// Loses the record that was claimed last, as a store does that restarts without its data.
    pub async fn forget_claimed(&self) {
        let claimed = self.claimed.lock().unwrap().take().expect("a claim");
        assert!(self.inner.remove(&claimed).await.unwrap());
    }

    /// The record that was claimed last.
    pub fn claimed(&self) -> RecordKey {
        self.claimed.lock().unwrap().expect("a claim")
    }

    /// Waits until a call waits.
    pub async fn waiting(&self) {
        self.waiting.acquire().await.unwrap().forget();
    }

    /// Lets a call that waits, or is late, go on.
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

    /// How many bytes of progress the calls have carried.
    pub fn progress_bytes(&self) -> usize {
        *self.progress_bytes.lock().unwrap()
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

    /// Whether that is scripted, once.
    fn take(&self, operation: Operation, fault: Fault) -> bool {
        let mut script = self.script.lock().unwrap();
        let found = script.iter().position(|it| *it == (operation, fault));
        found.map(|place| script.remove(place)).is_some()
    }

    async fn call<T: Send + 'static>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.perform(operation, call)
            .await
            .and_then(|result| result)
    }

    /// A call with a result for each of its items, which all fail alike.
    async fn call_each<T: Clone + Send + 'static>(
        &self,
        operation: Operation,
        items: usize,
        call: impl Future<Output = Vec<Result<T, StoreError>>> + Send + 'static,
    ) -> Vec<Result<T, StoreError>> {
        let performed = self.perform(operation, call).await;
        performed.unwrap_or_else(|error| vec![Err(error); items])
    }

    async fn perform<T: Send + 'static>(
        &self,
        operation: Operation,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StoreError> {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        match self.next(operation) {
            Fault::Works => Ok(call.await),
            Fault::Refused(kind) => Err(StoreError::new("faulty", kind)),
            Fault::ReplyLost => {
                call.await;
                Err(StoreError::new("faulty", StoreErrorKind::Unavailable))
            }
            Fault::Waits => {
                self.waiting.add_permits(1);
                self.proceed.acquire().await.unwrap().forget();
                Ok(call.await)
            }
            Fault::ReplyWaits => {
                let reply = call.await;
                self.waiting.add_permits(1);
                self.proceed.acquire().await.unwrap().forget();
                Ok(reply)
            }
            Fault::Hangs => {
                call.await;
                std::future::pending().await
            }
            Fault::Swallowed => std::future::pending().await,
            Fault::Late => {
                let proceed = Arc::clone(&self.proceed);
                tokio::spawn(async move {
                    proceed.acquire().await.unwrap().forget();
                    call.await
                });
                std::future::pending().await
            }
            Fault::PanicsAfterwards => {
                call.await;
                panic!("the store's driver has a bug")
            }
            Fault::Panics | Fault::PanicsBeforeItsFuture | Fault::Denied => {
                panic!("the store's driver has a bug")
            }
        }
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn name(&self) -> &'static str {
        "faulty"
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        *self.claimed.lock().unwrap() = Some(request.owner.key);
        let (inner, operation) = (Arc::clone(&self.inner), request.operation.to_owned());
        let (owner, fingerprint) = (request.owner, request.fingerprint);
        let (lease, retention) = (request.lease, request.retention);
        let (progress, take_over) = (request.progress.to_vec(), request.take_over);
        let claim = async move {
            let request = ClaimRequest {
                owner,
                fingerprint,
                operation: &operation,
                label: None,
                lease,
                retention,
                progress: &progress,
                take_over,
            };
            inner.claim(&request).await
        };
        self.call(Operation::Claim, claim).await
    }

    fn renew<'s, 'r, 'f>(
        &'s self,
        renewals: &'r [Renewal],
    ) -> Pin<Box<dyn Future<Output = Vec<Result<Renewed, StoreError>>> + Send + 'f>>
    where
        's: 'f,
        'r: 'f,
    {
        let is_now = self.take(Operation::Renew, Fault::PanicsBeforeItsFuture);
        assert!(!is_now, "a store without a future");
        if self.take(Operation::Renew, Fault::Denied) {
            self.calls.lock().unwrap().push(Operation::Renew);
            let denied = renewals.iter().map(|_| Ok(Renewed::Lost)).collect();
            return Box::pin(std::future::ready(denied));
        }
        Box::pin(self.renew_later(renewals))
    }

    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        *self.progress_bytes.lock().unwrap() += bytes.len();
        let (inner, owner, bytes) = (Arc::clone(&self.inner), *owner, bytes.clone());
        let save = async move { inner.save_progress(&owner, offset, &bytes).await };
        self.call(Operation::SaveProgress, save).await
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        if self.refuses_bodies && response.body.is_some() {
            return Err(StoreError::new("faulty", StoreErrorKind::TooLarge));
        }
        let (inner, owner, response) = (Arc::clone(&self.inner), *owner, Arc::clone(response));
        let complete = async move { inner.complete(&owner, &response, ttl).await };
        self.call(Operation::Complete, complete).await
    }

    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        let (inner, owners) = (Arc::clone(&self.inner), owners.to_vec());
        let items = owners.len();
        let release = async move { inner.release(&owners).await };
        self.call_each(Operation::Release, items, release).await
    }

    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        let (inner, owners) = (Arc::clone(&self.inner), owners.to_vec());
        let items = owners.len();
        let abandon = async move { inner.abandon(&owners).await };
        self.call_each(Operation::Abandon, items, abandon).await
    }

    async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        if self.is_certain {
            return Ok(false);
        }
        let (inner, key) = (Arc::clone(&self.inner), *key);
        let give = async move { inner.give_grace(&key, attempt, grace, retention).await };
        self.call(Operation::GiveGrace, give).await
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let (inner, key) = (Arc::clone(&self.inner), *key);
        let get = async move { inner.get(&key).await };
        self.call(Operation::Get, get).await
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        let (inner, key) = (Arc::clone(&self.inner), *key);
        let remove = async move { inner.remove(&key).await };
        self.call(Operation::Remove, remove).await
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        self.inner.purge_expired(limit).await
    }

    async fn list(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        let inner = Arc::clone(&self.inner);
        let (filter, cursor) = (filter.clone(), cursor.cloned());
        let list = async move { inner.list(&filter, cursor.as_ref(), limit).await };
        self.call(Operation::List, list).await
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        if self.gives_notifications {
            self.inner.subscribe(key)
        } else {
            Subscription::none()
        }
    }

    fn transactor(&self) -> Option<Transactor> {
        None
    }
}
