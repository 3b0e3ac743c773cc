//! Where the records are, and the connections to them.

use std::sync::Arc;

use sqlx::MySqlPool;

use super::error::NAME;
use super::lane::{Health, Lane};
use super::many::ManyStatements;
use super::pooled::PooledStatements;
use super::statements::Statements;
use super::table::QualifiedTable;
use crate::store::StoreError;
use crate::store::sql::{PerRuntime, TableName};

/// The connections for claims, completions and all else but renewals.
const CONNECTIONS: u32 = 10;

/// The connections for renewals, which wait for no other call.
const RENEWAL_CONNECTIONS: u32 = 2;

/// A table of records.
#[derive(Clone)]
pub(super) struct Records {
    /// For transactions.
    pub(super) pool: MySqlPool,
    lanes: Arc<Runtimes>,
    pub(super) table: QualifiedTable,
    pub(super) statements: Arc<Statements>,
    pub(super) many: Arc<ManyStatements>,
    pub(super) pooled: Arc<PooledStatements>,
}

/// The store's own connections on one runtime.
pub(super) struct Lanes {
    pub(super) calls: Lane,
    pub(super) renewals: Lane,
}

/// Those of each runtime. What one finds out about the server is news to all.
struct Runtimes {
    connections: u32,
    health: Arc<Health>,
    lanes: PerRuntime<Lanes>,
}

impl Runtimes {
    fn new(connections: u32) -> Arc<Self> {
        Arc::new(Self {
            connections,
            health: Arc::default(),
            lanes: PerRuntime::of(NAME),
        })
    }
}

impl Records {
    pub(super) fn new(pool: MySqlPool) -> Self {
        Self::of(pool, Runtimes::new(CONNECTIONS), TableName::default())
    }

    pub(super) fn with_table(self, name: TableName) -> Self {
        Self::of(self.pool, self.lanes, name)
    }

    pub(super) fn with_connections(self, connections: u32) -> Self {
        let lanes = Runtimes::new(connections);
        Self { lanes, ..self }
    }

    /// Those of the runtime that this is called on.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when there is no runtime.
    pub(super) fn lanes(&self) -> Result<Arc<Lanes>, StoreError> {
        let Runtimes {
            connections,
            health,
            lanes,
        } = &*self.lanes;
        let lane = |connections| Lane::new(self.pool.clone(), Arc::clone(health), connections);
        lanes.here(|| Lanes {
            calls: lane(*connections),
            renewals: lane(RENEWAL_CONNECTIONS),
        })
    }

    fn of(pool: MySqlPool, lanes: Arc<Runtimes>, name: TableName) -> Self {
        let table = QualifiedTable::new(&pool.connect_options(), name);
        Self {
            pool,
            lanes,
            statements: Arc::new(Statements::new(&table)),
            many: Arc::new(ManyStatements::new(&table)),
            pooled: Arc::new(PooledStatements::new(&table)),
            table,
        }
    }
}
