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
    Cached(Arc<CachedStore<Arc<dyn Store>>>),
    Other,
}

impl Backend {
    /// A store, with a cache in front of it unless it is the memory store.
    pub(crate) fn new(store: Arc<dyn Store>, cache: Option<ReplayCache>) -> Self {
        #[cfg(feature = "memory")]
        if let Ok(memory) = (Arc::clone(&store) as Arc<dyn Any + Send + Sync>).downcast() {
            let known = Known::Memory(memory);
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

/// A store that is shared already is not wrapped once more: that would box each of its answers twice, and hide
/// what it is.
pub(crate) fn shared(store: impl Store) -> Arc<dyn Store> {
    let any = &store as &dyn Any;
    #[cfg(feature = "memory")]
    if let Some(memory) = any.downcast_ref::<Arc<MemoryStore>>() {
        return Arc::clone(memory) as _;
    }
    match any.downcast_ref::<Arc<dyn Store>>() {
        Some(shared) => Arc::clone(shared),
        None => Arc::new(store),
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use super::*;

    fn backend(store: impl Store) -> Backend {
        Backend::new(shared(store), Some(ReplayCache::new()))
    }

    #[test]
    fn memory_store_is_known_however_it_is_shared_and_has_no_cache() {
        let memory = || Arc::new(MemoryStore::new());
        for backend in [
            backend(MemoryStore::new()),
            backend(memory()),
            backend(memory() as Arc<dyn Store>),
        ] {
            assert!(matches!(backend.known, Known::Memory(_)));
        }
    }

    #[test]
    fn wrapper_of_a_memory_store_is_a_store_like_any_other() {
        let wrapper = ReplayCache::new().in_front_of(MemoryStore::new());
        assert!(matches!(backend(wrapper).known, Known::Cached(_)));
        let wrapper = ReplayCache::new().in_front_of(MemoryStore::new());
        let alone = Backend::new(shared(wrapper), None);
        assert!(matches!(alone.known, Known::Other));
        assert!(!alone.is_in_process());
    }
}
