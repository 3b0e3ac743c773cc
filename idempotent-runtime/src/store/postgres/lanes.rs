//! The store's connections, for each runtime that uses it: with its own lanes it has its own groups.

use std::fmt;
use std::sync::Arc;

use super::connector::Connector;
use super::error::NAME;
use super::groups::Groups;
use super::lane::Lane;
use crate::store::StoreError;
use crate::store::sql::PerRuntime;

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
    lanes: PerRuntime<Lanes>,
}

impl Runtimes {
    pub(super) fn new(connector: Connector, connections: u32) -> Self {
        Self {
            connector,
            // One more than may be on their way alone: for a group.
            connections: connections.max(2),
            lanes: PerRuntime::of(NAME),
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
        self.lanes.here(|| {
            let work = Arc::new(Lane::new(self.connector.clone(), self.connections));
            Lanes {
                groups: Groups::new(Arc::clone(&work)),
                work,
                leases: Lane::new(self.connector.clone(), LEASE_CONNECTIONS),
                finding: tokio::sync::Mutex::default(),
            }
        })
    }
}

impl fmt::Debug for Runtimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lanes.fmt(f)
    }
}
