//! A store as the engine uses it.
//!
//! The contract of a store has operations only. The engine knows two stores better than that: its own memory store,
//! whose operations wait for nothing, and its own replay cache, which answers without an operation. Any other store,
//! a wrapper around one of these too, sees each operation.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{CachedStore, Claim, ClaimRequest, Completion, ReplayCache, Store, StoreError};
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{CompactResponse, Owner, StoredResponse};
#[cfg(feature = "memory")]
use crate::store::memory::MemoryStore;

/// A store, and what is known about it. Clones share the store.
#[derive(Clone)]
pub(crate) struct Backend {
    store: Arc<dyn Store>,
    known: Known,
}

#[derive(Clone)]
enum Known {
    #[cfg(feature = "memory")]
    Memory(Arc<MemoryStore>),
    Cached(Arc<CachedStore>),
    Other,
}

impl Backend {
    /// A store, with a cache in front of it unless it is the memory store or has one already.
    pub(crate) fn new(store: Arc<dyn Store>, cache: Option<ReplayCache>) -> Self {
        #[cfg(feature = "memory")]
        if let Ok(memory) = (Arc::clone(&store) as Arc<dyn Any + Send + Sync>).downcast() {
            let known = Known::Memory(memory);
            return Self { store, known };
        }
        if let Ok(cached) = (Arc::clone(&store) as Arc<dyn Any + Send + Sync>).downcast() {
            let known = Known::Cached(cached);
            return Self { store, known };
        }
        match cache {
            Some(cache) => {
                let cached = Arc::new(cache.in_front_of(store));
                Self {
                    store: Arc::clone(&cached) as _,
                    known: Known::Cached(cached),
                }
            }
            None => Self {
                store,
                known: Known::Other,
            },
        }
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Whether the store is in this process: no other can use it, and it waits for nothing.
    pub(crate) fn is_in_process(&self) -> bool {
        match &self.known {
            #[cfg(feature = "memory")]
            Known::Memory(_) => true,
            Known::Cached(_) | Known::Other => false,
        }
    }

    /// The response to exactly this request, if it is in this process's memory.
    pub(crate) fn replay(
        &self,
        key: &RecordKey,
        fingerprint: &Fingerprint,
    ) -> Option<Arc<StoredResponse>> {
        match &self.known {
            #[cfg(feature = "memory")]
            Known::Memory(memory) => memory.replay(key, fingerprint),
            Known::Cached(cached) => cached.replay(key, fingerprint),
            Known::Other => None,
        }
    }

    /// As [`Store::claim`], if the store is [in this process](Self::is_in_process). The token of the request is unique in this process, but not
    /// necessarily in others.
    #[cfg_attr(
        not(feature = "memory"),
        expect(unused_variables, reason = "no other store answers without waiting")
    )]
    pub(crate) fn claim_now(
        &self,
        request: &ClaimRequest<'_>,
    ) -> Option<Result<Claim, StoreError>> {
        match &self.known {
            #[cfg(feature = "memory")]
            Known::Memory(memory) => Some(memory.claim_now(request)),
            Known::Cached(_) | Known::Other => None,
        }
    }

    /// As [`Store::complete`], if the store is [in this process](Self::is_in_process).
    #[cfg_attr(
        not(feature = "memory"),
        expect(unused_variables, reason = "no other store answers without waiting")
    )]
    pub(crate) fn complete_now(
        &self,
        owner: &Owner,
        response: impl FnOnce() -> CompactResponse,
        ttl: Duration,
    ) -> Option<Result<Completion, StoreError>> {
        match &self.known {
            #[cfg(feature = "memory")]
            Known::Memory(memory) => Some(memory.complete_now(owner, response(), ttl)),
            Known::Cached(_) | Known::Other => None,
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use super::*;
    use crate::store::shared::shared;

    #[test]
    fn memory_store_is_known_however_it_is_shared_and_has_no_cache() {
        let memory = || Arc::new(MemoryStore::new());
        let known: [Arc<dyn Store>; 6] = [
            shared(MemoryStore::new()),
            shared(memory()),
            shared(memory() as Arc<dyn Store>),
            shared(Arc::new(memory()) as Arc<dyn Store>),
            shared(Box::new(MemoryStore::new())),
            shared(Box::new(memory()) as Box<dyn Store>),
        ];
        for (at, store) in known.into_iter().enumerate() {
            let backend = Backend::new(store, Some(ReplayCache::new()));
            assert!(matches!(backend.known, Known::Memory(_)), "{at}");
        }
    }

    #[test]
    fn cached_store_of_the_application_has_no_other_cache_in_front_of_it() {
        let own = Arc::new(ReplayCache::new().in_front_of(MemoryStore::new()));
        for cache in [None, Some(ReplayCache::new())] {
            let backend = Backend::new(shared(Arc::clone(&own)), cache);
            let Known::Cached(cached) = &backend.known else {
                panic!("it is not known");
            };
            assert!(Arc::ptr_eq(cached, &own));
            assert!(!backend.is_in_process());
        }
    }
}
