//! Where the records are, and the connections to them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::postgres::PgRow;
use tokio::time::timeout;

use super::connector::Connector;
use super::grouped::{Done, Grouped};
use super::lanes::{Lanes, Runtimes};
use super::schema::{self, Place};
use super::statements::{Query, Statements, statement};
use crate::error::Error;
use crate::record::{Owner, StoredResponse};
use crate::store::sql::TableName;
use crate::store::{ClaimRequest, StoreError};

/// How long a caller waits for another one that is finding the table.
const FIND_TURN: Duration = Duration::from_millis(250);

/// A table of records, found at its first use.
pub(super) struct Records {
    place: Place,
    runtimes: Runtimes,
    found: OnceLock<Arc<Statements>>,
}

impl Records {
    pub(super) fn new(connector: Connector, connections: u32, place: Place) -> Self {
        Self {
            place,
            runtimes: Runtimes::new(connector, connections),
            found: OnceLock::new(),
        }
    }

    pub(super) fn table(&self) -> &TableName {
        &self.place.table
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn connector(&self) -> &Connector {
        self.runtimes.connector()
    }

    pub(super) fn connections(&self) -> u32 {
        self.runtimes.connections()
    }

    pub(super) fn lanes(&self) -> Result<Arc<Lanes>, StoreError> {
        self.runtimes.lanes()
    }

    pub(super) async fn migrate(&self) -> Result<(), Error> {
        let schema = schema::migrate(self.connector(), &self.place).await?;
        self.found_in(&schema);
        Ok(())
    }

    /// The statements, with the schema that the table was found in.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when there is no table that this release can use.
    pub(super) async fn statements(&self) -> Result<Arc<Statements>, StoreError> {
        if let Some(found) = self.found.get() {
            return Ok(Arc::clone(found));
        }
        let lanes = self.lanes()?;
        // One of a thousand callers at the start, unless that one stands still.
        let _turn = timeout(FIND_TURN, lanes.finding.lock()).await;
        if let Some(found) = self.found.get() {
            return Ok(Arc::clone(found));
        }
        let schema = schema::find(&lanes.work, &self.place).await?;
        Ok(self.found_in(&schema))
    }

    fn found_in(&self, schema: &str) -> Arc<Statements> {
        let statements = || Arc::new(Statements::new(schema, &self.place.table));
        Arc::clone(self.found.get_or_init(statements))
    }

    /// The rows of one statement about one record, or about the table; it may be sent twice.
    pub(super) async fn rows<'q>(
        &self,
        query: impl Fn(&Statements) -> Query<'q>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let sql = self.statements().await?;
        self.lanes()?.work.rows(None, || query(&sql)).await
    }

    pub(super) async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Done, StoreError> {
        let sql = self.statements().await?;
        let operation = Grouped::claim(request);
        self.lanes()?.groups.run(operation, &sql).await
    }

    pub(super) async fn complete(
        &self,
        owner: &Owner,
        response: &StoredResponse,
        ttl: Duration,
    ) -> Result<Done, StoreError> {
        let sql = self.statements().await?;
        let operation = Grouped::completion(owner, response, ttl);
        self.lanes()?.groups.run(operation, &sql).await
    }

    /// A statement about the leases of these owners. It waits for no row, so that an idle connection
    /// that says nothing for `patience` is given up.
    pub(super) async fn of_leases<'q>(
        &self,
        owners: impl Iterator<Item = &'q Owner> + Clone,
        which: impl Fn(&Statements) -> &Arc<str>,
        times: Option<(Vec<i64>, Vec<i64>)>,
        patience: Duration,
    ) -> Result<Vec<PgRow>, StoreError> {
        let sql = self.statements().await?;
        let query = || {
            let keys: Vec<_> = owners
                .clone()
                .map(|owner| &owner.key.as_bytes()[..])
                .collect();
            let tokens: Vec<_> = owners
                .clone()
                .map(|owner| &owner.token.as_bytes()[..])
                .collect();
            let query = statement(which(&sql)).bind(keys).bind(tokens);
            match times.clone() {
                Some((leases, retentions)) => query.bind(leases).bind(retentions),
                None => query,
            }
        };
        self.lanes()?.leases.rows(Some(patience), query).await
    }
}
