//! Locks of single records, as another client's transaction takes them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use idempotent_runtime::RecordKey;
use idempotent_runtime::store::conformance::RecordLock;
use idempotent_runtime::store::{StoreError, StoreErrorKind};
use tokio::sync::Notify;

use super::{Fault, MutexStore};

#[derive(Clone, Debug, Default)]
pub(super) struct Locks(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    locked: Mutex<HashSet<[u8; 32]>>,
    unlocked: Notify,
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, HashSet<[u8; 32]>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Lock {
    shared: Arc<Shared>,
    key: [u8; 32],
}

#[async_trait]
impl RecordLock for Lock {
    async fn unlock(self: Box<Self>) {}
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.shared.locked().remove(&self.key);
        self.shared.unlocked.notify_waiters();
    }
}

impl MutexStore {
    pub(crate) fn lock_record(&self, key: &RecordKey) -> Box<dyn RecordLock> {
        let (shared, key) = (Arc::clone(&self.locks.0), *key.as_bytes());
        shared.locked().insert(key);
        Box::new(Lock { shared, key })
    }

    /// What becomes of a write to a record that is locked; `Ok` stands for one that is lost.
    pub(super) async fn when_locked(&self, key: &RecordKey) -> Option<Result<(), StoreError>> {
        loop {
            let unlocked = self.locks.0.unlocked.notified();
            let is_locked = {
                let locked = self.locks.0.locked();
                locked.contains(key.as_bytes())
                    || self.has(Fault::LockIsOfTheTable) && !locked.is_empty()
            };
            if !is_locked {
                return None;
            }
            match self.fault {
                Some(Fault::LockedIsLost) => return Some(Ok(())),
                Some(Fault::LockedIsWaitedFor) => unlocked.await,
                _ => return Some(Err(StoreError::new("mutex", StoreErrorKind::Busy))),
            }
        }
    }
}
