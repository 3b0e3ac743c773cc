//! The engine: the claim protocol, and nothing of HTTP.
//!
//! It turns "this key, this fingerprint, this policy" into one of a few outcomes, keeps the lease
//! of the attempt that runs, and sees to it that what was claimed is completed, released or abandoned
//! whatever happens to the caller or the store: a future that is dropped half-way, a store that is
//! unavailable or refuses, a reply or a claim that was lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::fingerprint::Fingerprint;
use crate::key::{Key, KeySet, RecordKey};
use crate::keyed::Keyed;
use crate::observer::Observers;
use crate::record::{Record, RecordState, StoredResponse};
use crate::store::backend::Backend;
use crate::store::{ListCursor, ListFilter, Listing, Store, StoreError};

mod abandoned;
mod background;
mod calls;
mod claim;
mod claim_guard;
mod claim_terms;
mod described;
mod detach;
mod fingerprints;
mod given_up;
mod key_queues;
mod known;
mod leases;
mod lookout;
mod old_keys;
mod pauses;
mod periodic;
mod random;
mod recoveries;
mod resolve;
mod secrets;
mod steps;
mod sweep;
mod take_over;
mod tasks;
mod transaction;
mod wait;

use self::periodic::Periodic;
use self::tasks::Tasks;

pub(crate) use abandoned::{Crashed, DescribeAbandoned};
pub(crate) use claim_guard::{Answer, ClaimGuard, Own};
pub(crate) use described::Described;
pub(crate) use detach::{Crowd, Detach, Mover};
pub(crate) use fingerprints::Fingerprints;
pub(crate) use known::Known;
pub(crate) use old_keys::{OldKey, look_up_old};
pub(crate) use resolve::resolve;
pub(crate) use secrets::{CheckValues, is_shared};
pub use steps::StepError;
pub(crate) use steps::{Labels, Steps};
pub(crate) use transaction::{
    InTransaction, begin_unprotected, enter_transaction, try_transactions,
};

/// Shared by every clone of an [`Idempotency`](crate::Idempotency).
#[derive(Clone, Debug)]
pub(crate) struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    calls: calls::Calls,
    retention: Duration,
    /// How long a transaction may be idle before the database ends it.
    idle_limit: Duration,
    leases: leases::Leases,
    watches: wait::Watches,
    key_queues: Keyed<key_queues::KeyQueue>,
    sweeper: Periodic,
    lookout: Periodic,
    secrets: secrets::Secrets,
    tasks: Tasks,
    held: AtomicUsize,
    pending: background::Pending,
    given_up: given_up::Queue,
    given_up_changed: tokio::sync::Notify,
    closing: AtomicBool,
}

/// What all operations share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineSettings {
    pub(crate) store_timeout: Duration,
    pub(crate) purge_interval: Duration,
    /// How often abandoned records are looked for; zero for never.
    pub(crate) abandoned_check_interval: Duration,
    /// How long a record outlives its lease while it is not completed.
    pub(crate) retention: Duration,
    /// The most memory of responses that wait to be stored.
    pub(crate) max_pending_bytes: usize,
    /// How long a handler in a transaction may take.
    pub(crate) transaction_timeout: Duration,
}

/// How much longer than a handler may take a database waits for the next statement of its transaction: none
/// comes when the connection is gone without a word.
const IDLE_MARGIN: Duration = Duration::from_secs(5);

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            store_timeout: Duration::from_secs(2),
            purge_interval: Duration::from_secs(60),
            abandoned_check_interval: Duration::ZERO,
            retention: Duration::from_secs(30 * 24 * 60 * 60),
            max_pending_bytes: 64 * 1024 * 1024,
            transaction_timeout: Duration::from_secs(30),
        }
    }
}

/// One request, as far as the engine knows it and a store is asked for it.
#[derive(Clone, Debug)]
pub(crate) struct Intent {
    pub(crate) keys: KeySet,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) operation: Described,
    /// How long its response is replayed.
    pub(crate) ttl: Duration,
    /// For a recovery function: the key, and whose it is.
    pub(crate) key: Key,
    pub(crate) scope: Option<Vec<u8>>,
}

/// Why there is no outcome. Nothing has run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the service is shutting down")]
    ShuttingDown,
    /// The key is too old to run, and has no record.
    #[error("the key is older than the TTL, and has no record")]
    KeyExpired,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no random token")]
    NoToken(#[from] std::io::Error),
    /// Another attempt has the key, or had it, and what has become of that one cannot be found out: the opposite of a
    /// licence to run.
    #[error("cannot read the state of a key that is in use")]
    InUse(#[source] Box<Refusal>),
}

impl Refusal {
    pub(crate) fn of_key_in_use(self) -> Self {
        match self {
            Self::Store(_) | Self::NoToken(_) => Self::InUse(Box::new(self)),
            Self::ShuttingDown | Self::KeyExpired | Self::InUse(_) => self,
        }
    }
}

impl Engine {
    /// `check_values` are compared with those of other instances as soon as there is a runtime.
    pub(crate) fn new(
        backend: Backend,
        settings: EngineSettings,
        check_values: Option<CheckValues>,
        observers: Observers,
    ) -> Self {
        let calls = calls::Calls::new(backend, settings.store_timeout, observers);
        let engine = Self(Arc::new(Inner {
            secrets: secrets::Secrets::new(check_values),
            leases: leases::Leases::new(calls.clone()),
            watches: wait::Watches::new(calls.clone()),
            key_queues: Keyed::default(),
            sweeper: Periodic::new(settings.purge_interval),
            lookout: Periodic::new(settings.abandoned_check_interval),
            calls,
            retention: settings.retention,
            idle_limit: settings.transaction_timeout + IDLE_MARGIN,
            tasks: Tasks::new(),
            held: AtomicUsize::new(0),
            pending: background::Pending::new(settings.max_pending_bytes),
            given_up: given_up::Queue::default(),
            given_up_changed: tokio::sync::Notify::new(),
            closing: AtomicBool::new(false),
        }));
        engine.look_after(Instant::now());
        engine
    }

    /// What is done in the background, from the beginning or from the first claim on a runtime.
    fn look_after(&self, now: Instant) {
        self.0.sweeper.run(&self.0.calls, now, sweep::sweep);
        self.0.secrets.check(&self.0.calls, now);
        self.0.lookout.run(&self.0.calls, now, lookout::look_out);
        given_up::look_after(self, now);
        self.0.leases.adopt();
    }

    pub(crate) fn observers(&self) -> &Observers {
        self.0.calls.observers()
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        self.0.calls.backend().store()
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// Stops claiming, waits for what runs, and says how many claims were left at the deadline.
    pub(crate) async fn shutdown(&self, deadline: Duration) -> usize {
        self.0.closing.store(true, Ordering::Release);
        self.0.sweeper.stop();
        self.0.lookout.stop();
        self.0.secrets.stop();
        given_up::look_after(self, Instant::now());
        match tokio::time::timeout(deadline, self.0.tasks.wait()).await {
            Ok(()) => 0,
            Err(_) => self.0.held.load(Ordering::Acquire),
        }
    }

    /// The stored response of exactly this request, if there is one.
    pub(crate) async fn peek(
        &self,
        keys: &KeySet,
        mut is_this_request: impl FnMut(Fingerprint) -> bool,
    ) -> Option<Arc<StoredResponse>> {
        for key in keys.iter() {
            match self.read(key).await.ok()? {
                None => {}
                Some(record) => {
                    return match record.state {
                        RecordState::Completed(stored) if is_this_request(record.fingerprint) => {
                            Some(stored)
                        }
                        _ => None,
                    };
                }
            }
        }
        None
    }

    pub(crate) async fn list(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        self.0.calls.list(filter, cursor, limit).await
    }

    pub(crate) async fn read(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.0.calls.get(key).await
    }

    pub(crate) async fn forget(&self, key: &RecordKey) -> Result<bool, StoreError> {
        self.0.calls.remove(key).await
    }

    fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::Acquire)
    }
}
