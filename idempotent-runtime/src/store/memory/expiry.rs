//! Which records expire next, without looking at all of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::key::RecordKey;

/// Keys by the second in which they have expired.
///
/// Records that were claimed in the same second with the same TTL share a bucket, so adding one is
/// a push, and taking the due ones is a look at the first bucket. A key may be in here more than
/// once, or be long gone: the record itself says when it expires.
#[derive(Debug)]
pub(super) struct ExpiryQueue {
    buckets: Mutex<BTreeMap<u64, Vec<RecordKey>>>,
    /// The first bucket's second, to be read without the lock.
    next: AtomicU64,
}

impl Default for ExpiryQueue {
    fn default() -> Self {
        Self {
            buckets: Mutex::default(),
            next: AtomicU64::new(u64::MAX),
        }
    }
}

impl ExpiryQueue {
    pub(super) fn push(&self, expires_at: Duration, key: RecordKey) {
        // The second that begins at or after the expiry: all in the bucket is due when it is.
        let second = expires_at.as_secs() + u64::from(expires_at.subsec_nanos() > 0);
        let mut buckets = self.lock();
        buckets.entry(second).or_default().push(key);
        self.next.fetch_min(second, Ordering::Relaxed);
    }

    /// Takes up to `limit` keys whose expiry has passed.
    pub(super) fn take_due(&self, now: Duration, limit: usize) -> Vec<RecordKey> {
        if now.as_secs() < self.next.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut due = Vec::new();
        let mut buckets = self.lock();
        while due.len() < limit
            && let Some(mut first) = buckets.first_entry()
            && *first.key() <= now.as_secs()
        {
            let keep = first.get().len().saturating_sub(limit - due.len());
            due.append(&mut first.get_mut().split_off(keep));
            if keep == 0 {
                first.remove();
            }
        }
        let next = buckets.keys().next().copied().unwrap_or(u64::MAX);
        self.next.store(next, Ordering::Relaxed);
        due
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<RecordKey>>> {
        // A push or a split leaves the map whole at every point where it could panic.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
