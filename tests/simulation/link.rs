//! A process's end of the network: a store whose calls are messages.

use std::cell::Cell;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use idempotent_runtime::store::{
    Claim, ClaimRequest, Completion, Progress, Purged, Release, Renewal, Renewed, Store,
    StoreError, StoreErrorKind, Subscription, Transactor,
};
use idempotent_runtime::{Fingerprint, Owner, Record, RecordKey, StoredResponse};
use tokio::sync::oneshot;

use crate::client::Answer;
use crate::operator::Did;
use crate::plan::Notifications;

pub const NAME: &str = "simulated";

/// A claim that owns what it says.
#[derive(Clone, Debug)]
pub struct ClaimOf {
    pub owner: Owner,
    pub fingerprint: Fingerprint,
    pub operation: Arc<str>,
    pub label: Option<Arc<str>>,
    pub lease: Duration,
    pub retention: Duration,
    pub progress: Vec<u8>,
    pub take_over: Option<u32>,
}

/// What a store is asked.
#[derive(Clone, Debug)]
pub enum Operation {
    Claim(ClaimOf),
    Renew(Vec<Renewal>),
    SaveProgress(Owner, usize, Bytes),
    Complete(Owner, Arc<StoredResponse>, Duration),
    Release(Vec<Owner>),
    Abandon(Vec<Owner>),
    /// A last lease for this attempt: its length, and the retention.
    GiveGrace(RecordKey, u32, Duration, Duration),
    Get(RecordKey),
    Remove(RecordKey),
    Purge(usize),
}

type Each<T> = Vec<Result<T, StoreError>>;

#[derive(Clone, Debug)]
pub enum Reply {
    Claim(Result<Claim, StoreError>),
    Renew(Each<Renewed>),
    SaveProgress(Result<Progress, StoreError>),
    Complete(Result<Completion, StoreError>),
    Release(Each<Release>),
    GiveGrace(Result<bool, StoreError>),
    Get(Result<Option<Record>, StoreError>),
    Remove(Result<bool, StoreError>),
    Purge(Result<Purged, StoreError>),
}

impl Operation {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Claim(_) => "claim",
            Self::Renew(_) => "renew",
            Self::SaveProgress(..) => "save",
            Self::Complete(..) => "complete",
            Self::Release(_) => "release",
            Self::Abandon(_) => "abandon",
            Self::GiveGrace(..) => "grace",
            Self::Get(_) => "get",
            Self::Remove(_) => "remove",
            Self::Purge(_) => "purge",
        }
    }

    /// The records that it is about.
    pub fn keys(&self) -> Vec<RecordKey> {
        match self {
            Self::Claim(claim) => vec![claim.owner.key],
            Self::Renew(renewals) => renewals.iter().map(|it| it.owner.key).collect(),
            Self::SaveProgress(owner, ..) | Self::Complete(owner, ..) => vec![owner.key],
            Self::Release(owners) | Self::Abandon(owners) => {
                owners.iter().map(|it| it.key).collect()
            }
            Self::GiveGrace(key, ..) | Self::Get(key) | Self::Remove(key) => vec![*key],
            Self::Purge(_) => Vec::new(),
        }
    }

    pub fn is_batch(&self) -> bool {
        matches!(self, Self::Renew(_) | Self::Release(_) | Self::Abandon(_))
    }

    /// The reply that says the same of everything that was asked.
    pub fn failed(&self, error: &StoreError) -> Reply {
        let error = error.clone();
        match self {
            Self::Claim(_) => Reply::Claim(Err(error)),
            Self::Renew(renewals) => Reply::Renew(vec![Err(error); renewals.len()]),
            Self::SaveProgress(..) => Reply::SaveProgress(Err(error)),
            Self::Complete(..) => Reply::Complete(Err(error)),
            Self::Release(owners) | Self::Abandon(owners) => {
                Reply::Release(vec![Err(error); owners.len()])
            }
            Self::GiveGrace(..) => Reply::GiveGrace(Err(error)),
            Self::Get(_) => Reply::Get(Err(error)),
            Self::Remove(_) => Reply::Remove(Err(error)),
            Self::Purge(_) => Reply::Purge(Err(error)),
        }
    }
}

/// What a process has done that others can see.
#[derive(Debug)]
pub enum Emission {
    Call {
        call: u64,
        /// The request on whose behalf it is made, where that is known.
        request: Option<u64>,
        operation: Operation,
        reply: oneshot::Sender<Reply>,
    },
    /// The caller does not wait for the reply any more.
    GivenUp(u64),
    Subscribe(RecordKey, oneshot::Sender<()>),
    Answered {
        request: u64,
        answer: Answer,
    },
    ShutDown {
        unfinished: usize,
    },
    /// An operator, by number.
    Operator(u64, Did),
}

thread_local! {
    static REQUEST: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Notes on whose behalf calls are made while it runs.
pub fn on_behalf_of<T>(request: u64, f: impl FnOnce() -> T) -> T {
    /// Also when a function panics.
    struct Before(Option<u64>);
    impl Drop for Before {
        fn drop(&mut self) {
            REQUEST.set(self.0);
        }
    }
    let _before = Before(REQUEST.replace(Some(request)));
    f()
}

pub fn current_request() -> Option<u64> {
    REQUEST.get()
}

#[derive(Debug, Default)]
struct Outbox {
    emissions: Vec<Emission>,
    waker: Option<Waker>,
    next_call: u64,
    is_cut: bool,
}

/// The wire of one process. Clones are the same.
#[derive(Clone, Debug)]
pub struct Link {
    outbox: Arc<Mutex<Outbox>>,
    notifications: Notifications,
}

impl Link {
    /// `first_call` numbers the calls: they are numbered apart from every other process's.
    pub fn new(first_call: u64, notifications: Notifications) -> Self {
        let outbox = Outbox {
            next_call: first_call,
            ..Outbox::default()
        };
        Self {
            outbox: Arc::new(Mutex::new(outbox)),
            notifications,
        }
    }

    pub fn emit(&self, emission: Emission) {
        let mut outbox = self.outbox.lock().unwrap();
        if outbox.is_cut {
            return;
        }
        outbox.emissions.push(emission);
        if let Some(waker) = outbox.waker.take() {
            waker.wake();
        }
    }

    /// Whether there is something to take; if not, the waker is woken when there is.
    pub fn has_emissions(&self, waker: &Waker) -> bool {
        let mut outbox = self.outbox.lock().unwrap();
        if outbox.emissions.is_empty() {
            outbox.waker = Some(waker.clone());
        }
        !outbox.emissions.is_empty()
    }

    pub fn take(&self) -> Vec<Emission> {
        std::mem::take(&mut self.outbox.lock().unwrap().emissions)
    }

    /// From now on nothing leaves the process.
    pub fn cut(&self) {
        let mut outbox = self.outbox.lock().unwrap();
        outbox.is_cut = true;
        let emissions = std::mem::take(&mut outbox.emissions);
        drop(outbox);
        drop(emissions);
    }

    async fn call(&self, operation: Operation) -> Reply {
        let (reply, replied) = oneshot::channel();
        let call = {
            let mut outbox = self.outbox.lock().unwrap();
            outbox.next_call += 1;
            outbox.next_call
        };
        let mut waiting = Waiting {
            link: self,
            call: Some(call),
        };
        self.emit(Emission::Call {
            call,
            request: REQUEST.get(),
            operation,
            reply,
        });
        match replied.await {
            Ok(reply) => {
                waiting.call = None;
                reply
            }
            // No reply ever comes.
            Err(_) => pending().await,
        }
    }
}

struct Waiting<'a> {
    link: &'a Link,
    call: Option<u64>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            self.link.emit(Emission::GivenUp(call));
        }
    }
}

macro_rules! call {
    ($link:expr, $operation:expr, $reply:ident) => {
        match $link.call($operation).await {
            Reply::$reply(reply) => reply,
            other => unreachable!("{other:?}"),
        }
    };
}

#[async_trait]
impl Store for Link {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        let claim = ClaimOf {
            owner: request.owner,
            fingerprint: request.fingerprint,
            operation: request.operation.into(),
            label: request.label.map(Arc::from),
            lease: request.lease,
            retention: request.retention,
            progress: request.progress.to_vec(),
            take_over: request.take_over,
        };
        call!(self, Operation::Claim(claim), Claim)
    }

    async fn renew(&self, renewals: &[Renewal]) -> Each<Renewed> {
        call!(self, Operation::Renew(renewals.to_vec()), Renew)
    }

    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        let save = Operation::SaveProgress(*owner, offset, bytes.clone());
        call!(self, save, SaveProgress)
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        let complete = Operation::Complete(*owner, Arc::clone(response), ttl);
        call!(self, complete, Complete)
    }

    async fn release(&self, owners: &[Owner]) -> Each<Release> {
        call!(self, Operation::Release(owners.to_vec()), Release)
    }

    async fn abandon(&self, owners: &[Owner]) -> Each<Release> {
        call!(self, Operation::Abandon(owners.to_vec()), Release)
    }

    async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        // The model counts in milliseconds.
        let grace = Duration::from_millis(grace.as_millis() as u64);
        let give = Operation::GiveGrace(*key, attempt, grace, retention);
        call!(self, give, GiveGrace)
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        call!(self, Operation::Get(*key), Get)
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        call!(self, Operation::Remove(*key), Remove)
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        call!(self, Operation::Purge(limit), Purge)
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        let (changed, is_changed) = oneshot::channel();
        let resolved = async move {
            if is_changed.await.is_err() {
                pending::<()>().await;
            }
        };
        match self.notifications {
            Notifications::None => return Subscription::none(),
            Notifications::Spurious => return Subscription::reliable(std::future::ready(())),
            Notifications::Lossy | Notifications::Reliable => {}
        }
        self.emit(Emission::Subscribe(*key, changed));
        if self.notifications == Notifications::Reliable {
            Subscription::reliable(resolved)
        } else {
            Subscription::best_effort(resolved)
        }
    }

    fn transactor(&self) -> Option<Transactor> {
        None
    }
}

pub fn error(kind: StoreErrorKind) -> StoreError {
    StoreError::new(NAME, kind)
}
