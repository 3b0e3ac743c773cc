//! Where the records are, and the connections to them.

use std::sync::Arc;

use sqlx::MySqlPool;

use super::lane::{Health, Lane};
use super::many::ManyStatements;
use super::pooled::PooledStatements;
use super::statements::Statements;
use super::table::QualifiedTable;
use crate::store::sql::TableName;

/// The connections for claims, completions and all else but renewals.
pub(super) const CONNECTIONS: u32 = 10;

/// The connections for renewals, which wait for no other call.
const RENEWAL_CONNECTIONS: u32 = 2;

/// A table of records.
#[derive(Clone)]
pub(super) struct Records {
    /// For transactions.
    pub(super) pool: MySqlPool,
    pub(super) lanes: Arc<Lanes>,
    pub(super) table: QualifiedTable,
    pub(super) statements: Arc<Statements>,
    pub(super) many: Arc<ManyStatements>,
    pub(super) pooled: Arc<PooledStatements>,
}

/// The store's own connections.
pub(super) struct Lanes {
    pub(super) calls: Lane,
    pub(super) renewals: Lane,
}

impl Lanes {
    pub(super) fn new(pool: &MySqlPool, connections: u32) -> Arc<Self> {
        let health = Arc::<Health>::default();
        Arc::new(Self {
            calls: Lane::new(pool.clone(), Arc::clone(&health), connections),
            renewals: Lane::new(pool.clone(), health, RENEWAL_CONNECTIONS),
        })
    }
}

impl Records {
    pub(super) fn new(pool: MySqlPool, lanes: Arc<Lanes>, name: TableName) -> Self {
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
