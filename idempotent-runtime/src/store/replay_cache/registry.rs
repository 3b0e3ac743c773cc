//! All caches of this process: what is freed through one handle is not replayed by another.
//!
//! A record key is a digest, so that forgetting it in front of another store does no harm: it is read
//! again there.

use std::sync::{Arc, PoisonError, RwLock, Weak};

use super::Cache;
use crate::key::RecordKey;

static CACHES: RwLock<Vec<Weak<Cache>>> = RwLock::new(Vec::new());

pub(super) fn register(cache: &Arc<Cache>) {
    let mut caches = CACHES.write().unwrap_or_else(PoisonError::into_inner);
    caches.retain(|cache| cache.strong_count() > 0);
    caches.push(Arc::downgrade(cache));
}

/// Forgets a key that is being removed in all caches of this process when it is dropped, however the
/// removal ends: given up half-way, it may have happened.
#[derive(Debug)]
pub(crate) struct Removal<'a>(pub(crate) &'a RecordKey);

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        let caches = CACHES.read().unwrap_or_else(PoisonError::into_inner);
        let caches: Vec<_> = caches.iter().filter_map(Weak::upgrade).collect();
        for cache in caches {
            cache.with_shard(self.0, |shard| shard.forget(self.0));
        }
    }
}
