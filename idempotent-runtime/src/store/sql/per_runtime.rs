//! What a store has for each runtime that uses it.
//!
//! A connection is driven by the runtime that it was made on. An application has one as a rule; where it has
//! several (one a worker thread, one a test), each has its own: a runtime that stands still or is gone must not take
//! the others' operations with it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::{Handle, Id};
use tokio::task::AbortHandle;

use crate::store::{StoreError, StoreErrorKind};

/// A value for each runtime, which ends with it.
pub(in crate::store) struct PerRuntime<T: Send + Sync + 'static> {
    store: &'static str,
    known: Arc<Mutex<Known<T>>>,
}

type Known<T> = HashMap<Id, Kept<T>>;

struct Kept<T> {
    value: Arc<T>,
    /// Missing while it is spawned.
    keeper: Option<AbortHandle>,
}

impl<T: Send + Sync + 'static> PerRuntime<T> {
    /// Of the store of this name.
    pub(in crate::store) fn of(store: &'static str) -> Self {
        Self {
            store,
            known: Arc::default(),
        }
    }

    /// That of the runtime that this is called on, which is made if it has none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when there is no runtime.
    pub(in crate::store) fn here(&self, make: impl FnOnce() -> T) -> Result<Arc<T>, StoreError> {
        let runtime = Handle::try_current().map_err(|_| self.no_runtime())?;
        let id = runtime.id();
        let mut known = lock(&self.known);
        if let Some(known) = known.get(&id) {
            return Ok(Arc::clone(&known.value));
        }
        let value = Arc::new(make());
        known.insert(
            id,
            Kept {
                value: Arc::clone(&value),
                keeper: None,
            },
        );
        drop(known);
        self.keep(&runtime)?;
        Ok(value)
    }

    /// Not under the lock: a runtime that is ending drops a task where it is spawned, and that takes the lock.
    fn keep(&self, runtime: &Handle) -> Result<(), StoreError> {
        let ended = RuntimeEnded {
            id: runtime.id(),
            known: Arc::downgrade(&self.known),
        };
        let keeper = runtime.spawn(async move {
            let _ended = ended;
            std::future::pending::<()>().await;
        });
        let mut known = lock(&self.known);
        let kept = known.get_mut(&runtime.id());
        kept.ok_or_else(|| self.no_runtime())?.keeper = Some(keeper.abort_handle());
        Ok(())
    }

    /// No runtime, no connection.
    fn no_runtime(&self) -> StoreError {
        StoreError::new(self.store, StoreErrorKind::Unavailable)
            .not_executed()
            .with_source("called outside of a tokio runtime")
    }
}

impl<T: Send + Sync + 'static> Drop for PerRuntime<T> {
    fn drop(&mut self) {
        // Aborted without the lock, which what ends with them takes.
        let known = std::mem::take(&mut *lock(&self.known));
        for keeper in known.values().filter_map(|runtime| runtime.keeper.as_ref()) {
            keeper.abort();
        }
    }
}

/// Dropped with the runtime: its connections can serve no call any more.
struct RuntimeEnded<T> {
    id: Id,
    known: Weak<Mutex<Known<T>>>,
}

impl<T> Drop for RuntimeEnded<T> {
    fn drop(&mut self) {
        let gone = self.known.upgrade();
        // Dropped behind the lock.
        drop(gone.map(|known| lock(&known).remove(&self.id)));
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for PerRuntime<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerRuntime")
            .field("known", &lock(&self.known).len())
            .finish_non_exhaustive()
    }
}

fn lock<T>(known: &Mutex<Known<T>>) -> MutexGuard<'_, Known<T>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
