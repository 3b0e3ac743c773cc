//! The store's connections, for each runtime that uses it.
//!
//! A connection is driven by the runtime that it was made on. An application has one as a rule; where it has
//! several (one a worker thread, one a test), each has its own lanes and its own groups: a runtime that
//! stands still or is gone must not take the others' operations with it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::{Handle, Id};
use tokio::task::AbortHandle;

use super::connector::Connector;
use super::error::no_runtime;
use super::groups::Groups;
use super::lane::Lane;
use crate::store::StoreError;

/// The connections for renewals, releases and abandoning: one for a call that hangs, and one for the next.
const LEASE_CONNECTIONS: u32 = 2;

/// What one runtime has.
pub(super) struct Lanes {
    /// Claims, completions, and whatever else is about one record.
    pub(super) work: Arc<Lane>,
    /// What is about the leases of many.
    pub(super) leases: Lane,
    pub(super) groups: Groups,
    /// Held by the call that finds out where the table is.
    pub(super) finding: tokio::sync::Mutex<()>,
}

/// The lanes of each runtime.
pub(super) struct Runtimes {
    connector: Connector,
    connections: u32,
    known: Arc<Mutex<Known>>,
}

type Known = HashMap<Id, Runtime>;

struct Runtime {
    lanes: Arc<Lanes>,
    /// Missing while it is spawned.
    keeper: Option<AbortHandle>,
}

impl Runtimes {
    pub(super) fn new(connector: Connector, connections: u32) -> Self {
        Self {
            connector,
            // One more than may be on their way alone: for a group.
            connections: connections.max(2),
            known: Arc::default(),
        }
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    pub(super) fn connections(&self) -> u32 {
        self.connections
    }

    /// Those of the runtime that this is called on.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when there is no runtime.
    pub(super) fn lanes(&self) -> Result<Arc<Lanes>, StoreError> {
        let runtime = Handle::try_current().map_err(|_| no_runtime())?;
        let id = runtime.id();
        let mut known = lock(&self.known);
        if let Some(known) = known.get(&id) {
            return Ok(Arc::clone(&known.lanes));
        }
        let work = Arc::new(Lane::new(self.connector.clone(), self.connections));
        let lanes = Arc::new(Lanes {
            groups: Groups::new(Arc::clone(&work)),
            work,
            leases: Lane::new(self.connector.clone(), LEASE_CONNECTIONS),
            finding: tokio::sync::Mutex::default(),
        });
        known.insert(
            id,
            Runtime {
                lanes: Arc::clone(&lanes),
                keeper: None,
            },
        );
        drop(known);
        self.keep(&runtime)?;
        Ok(lanes)
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
        let kept = known.get_mut(&runtime.id()).ok_or_else(no_runtime)?;
        kept.keeper = Some(keeper.abort_handle());
        Ok(())
    }
}

impl Drop for Runtimes {
    fn drop(&mut self) {
        // Aborted without the lock, which what ends with them takes.
        let known = std::mem::take(&mut *lock(&self.known));
        for keeper in known.values().filter_map(|runtime| runtime.keeper.as_ref()) {
            keeper.abort();
        }
    }
}

/// Dropped with the runtime: its connections can serve no call any more.
struct RuntimeEnded {
    id: Id,
    known: Weak<Mutex<Known>>,
}

impl Drop for RuntimeEnded {
    fn drop(&mut self) {
        let gone = self.known.upgrade();
        // Dropped behind the lock.
        drop(gone.map(|known| lock(&known).remove(&self.id)));
    }
}

impl fmt::Debug for Runtimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtimes")
            .field("known", &lock(&self.known).len())
            .finish_non_exhaustive()
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
