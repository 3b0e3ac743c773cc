//! Pointers to stores.

use std::any::Any;
use std::sync::Arc;

use super::{CachedStore, Store};
#[cfg(feature = "memory")]
use crate::store::memory::MemoryStore;

/// A store behind one pointer. One that is behind pointers already is taken out of them: each more would box each of
/// its answers once more, and hide what it is.
pub(crate) fn shared(store: impl Store) -> Arc<dyn Store> {
    let mut shared = unboxed(store);
    while let Some(inner) = within(&*shared) {
        shared = inner;
    }
    shared
}

fn unboxed<S: Store>(store: S) -> Arc<dyn Store> {
    let mut store = Some(store);
    let any = &mut store as &mut dyn Any;
    if let Some(store) = any
        .downcast_mut::<Option<Box<dyn Store>>>()
        .and_then(Option::take)
    {
        return store.into();
    }
    #[cfg(feature = "memory")]
    if let Some(store) = any
        .downcast_mut::<Option<Box<MemoryStore>>>()
        .and_then(Option::take)
    {
        return Arc::from(store as Box<dyn Store>);
    }
    #[expect(clippy::expect_used, reason = "it was taken for another type only")]
    Arc::new(store.expect("a store that is no box"))
}

/// The store that a shared pointer points to.
fn within(pointer: &dyn Store) -> Option<Arc<dyn Store>> {
    let any = pointer as &dyn Any;
    if let Some(store) = any.downcast_ref::<Arc<dyn Store>>() {
        return Some(Arc::clone(store));
    }
    if let Some(store) = any.downcast_ref::<Arc<CachedStore>>() {
        return Some(Arc::clone(store) as _);
    }
    #[cfg(feature = "memory")]
    if let Some(store) = any.downcast_ref::<Arc<MemoryStore>>() {
        return Some(Arc::clone(store) as _);
    }
    None
}
