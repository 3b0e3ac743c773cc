//! What a [`Target`] needs of the store besides its operations.

use std::cmp::Reverse;
use std::sync::Arc;

use ::redis::aio::ConnectionLike;
use async_trait::async_trait;

use super::line::Line;
use super::servers::Servers;
use super::{ReconnectingConnection, RedisStore, configuration, connect, rights};
use crate::error::Error;
use crate::key::RecordKey;
use crate::store::target::Named;
use crate::store::{Finding, Severity, Store, StoreError, Target};

impl RedisStore {
    /// Nothing is connected.
    pub(super) fn of_servers(servers: Servers) -> Self {
        let line = || Line::that_tries_once(ReconnectingConnection::new(servers.clone()));
        let mut store = Self::on(line());
        store.records.renewals = Some(line());
        store.hearing(servers)
    }

    pub(in crate::store) fn of_target(target: &Target) -> Result<Self, Error> {
        target.must_have_only(&["prefix"])?;
        let store = Self::of_servers(connect::servers(&target.url)?);
        match &target.prefix {
            Some(prefix) => store.with_prefix(prefix),
            None => Ok(store),
        }
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisStore<C> {
    /// Looks for what can lose records or keep them from being completed, the worst first: eviction, missing
    /// persistence, a replica, a version that is too old, a command that this user may not run.
    ///
    /// A server that does not let us look is no error but a [`Finding`] that says so.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when there is no connection, or the server wants a password.
    pub async fn check_configuration(&self) -> Result<Vec<Finding>, StoreError> {
        let mut findings = self.check().await?;
        findings.retain(|finding| finding.severity >= Severity::Warning);
        Ok(findings)
    }

    /// The same, with what is good, and what depends on what is at stake (`appendfsync`, replicas): for an operator.
    ///
    /// # Errors
    ///
    /// As [`check_configuration`](Self::check_configuration).
    pub async fn check(&self) -> Result<Vec<Finding>, StoreError> {
        let mut connection = self.records.line.connection();
        let mut findings = configuration::check(&mut connection).await?;
        // No digest is so.
        let missing = self.records.name(&RecordKey::from_bytes([0; 32]));
        findings.push(rights::check(&mut connection, &missing).await?);
        findings.sort_by_key(|finding| Reverse(finding.severity));
        Ok(findings)
    }
}

#[async_trait]
impl Named for RedisStore {
    async fn probe(&self) -> Result<(), Error> {
        connect::probe(&self.records.line.connection()).await
    }

    async fn check(&self) -> Result<Vec<Finding>, StoreError> {
        Self::check(self).await
    }

    fn into_store(self: Box<Self>) -> Arc<dyn Store> {
        Arc::new(*self)
    }
}
