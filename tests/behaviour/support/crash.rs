//! Processes that stop in the middle of a handler, on a store that outlives them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use idempotent_runtime::store::{Claim, ClaimRequest, Release, Store};
use idempotent_runtime::{IdempotencyBuilder, ManualClock, Owner, RecordKey, Token};
use tokio::task::JoinHandle;

use super::{App, FaultyStore, Local, Reply, builder_on};

pub const LEASE: Duration = Duration::from_secs(30);

/// A store by a clock that stands still unless a process crashes.
pub struct Crashes {
    pub store: FaultyStore,
    pub clock: Arc<ManualClock>,
}

/// A process that has stopped, and that everybody else takes for dead.
pub struct Stopped {
    pub process: Local,
    /// What its handler would have answered.
    pub reply: JoinHandle<Reply>,
}

impl Crashes {
    pub fn new() -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = FaultyStore::certain(&clock);
        Self { store, clock }
    }

    /// Posts to a process of its own, which stops where its handler waits to be let through.
    pub async fn stop_at(&self, routes: Router<App>, path: &'static str) -> Stopped {
        let process = Local::new(self.store.clone(), routes);
        let reply = process.spawn(path, "key");
        process.probe.started().await;
        self.clock.advance(LEASE);
        Stopped { process, reply }
    }

    /// As [`stop_at`](Self::stop_at), and then the process is gone with its runtime: it does not even renew its lease.
    pub fn crash_at(&self, routes: Router<App>, path: &'static str) {
        let crash = || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(self.stop_at(routes, path));
        };
        std::thread::scope(|threads| threads.spawn(crash).join()).unwrap();
    }

    pub fn builder(&self) -> IdempotencyBuilder {
        builder_on(self.store.clone())
    }

    /// Takes an abandoned record over, leaves this progress, and crashes as well.
    pub async fn leave_progress(&self, key: RecordKey, progress: &'static [u8]) {
        let owner = self.take_over(key).await;
        let progress = Bytes::from_static(progress);
        let record = self.store.get(&key).await.unwrap().unwrap();
        let kept = record.progress.len();
        let rest = progress.slice(kept.min(progress.len())..);
        self.store.save_progress(&owner, kept, &rest).await.unwrap();
        let abandoned = self.store.abandon(&[owner]).await.pop().unwrap();
        assert_eq!(abandoned.unwrap(), Release::Released);
    }

    /// Takes an abandoned record over, as another process does.
    pub async fn take_over(&self, key: RecordKey) -> Owner {
        take_over(&self.store, key).await
    }
}

/// Takes an abandoned record over, as another process does.
pub async fn take_over(store: &FaultyStore, key: RecordKey) -> Owner {
    let record = store.get(&key).await.unwrap().unwrap();
    let owner = Owner {
        key,
        token: Token::random().unwrap(),
    };
    let request = ClaimRequest {
        owner,
        fingerprint: record.fingerprint,
        operation: &record.operation,
        label: None,
        lease: LEASE,
        retention: record.expires_in,
        progress: &[],
        take_over: Some(record.attempt),
    };
    let claim = store.claim(&request).await.unwrap();
    assert!(matches!(claim, Claim::Acquired { .. }), "{claim:?}");
    owner
}
