//! Where the records are, and how their scripts are called.

use std::sync::Arc;

use ::redis::Value;
use ::redis::aio::ConnectionLike;

use super::batch::{self, ScriptCall};
use super::line::{Line, ScriptReply};
use super::name::Name;
use super::scripts::{self, Script};
use super::{reply, written};
use crate::key::RecordKey;
use crate::record::Owner;
use crate::store::{Renewal, StoreError, StoreErrorKind};

/// Where the version, the fingerprint, the token and the attempt of a record end.
const ATTEMPT_END: usize = 53;

/// The records under one prefix. Clones share the connection.
#[derive(Clone)]
pub(super) struct Records<C> {
    pub(super) line: Line<C>,
    /// Where leases are renewed: not behind the long response of another request. `None`: as all the rest.
    pub(super) renewals: Option<Line<C>>,
    pub(super) prefix: Arc<str>,
    /// Whether waiters are told nothing.
    pub(super) is_quiet: bool,
}

impl<C> Records<C> {
    pub(super) fn new(line: Line<C>, prefix: &str) -> Self {
        Self {
            line,
            renewals: None,
            prefix: prefix.into(),
            is_quiet: false,
        }
    }

    pub(super) fn name(&self, key: &RecordKey) -> Name {
        Name::new(&self.prefix, key)
    }

    /// What a script is called with in addition if it must tell no waiter.
    pub(super) fn quiet(&self) -> &'static [&'static [u8]] {
        match self.is_quiet {
            true => &[b"quiet"],
            false => &[],
        }
    }

    /// The same, for what must not be sent twice.
    pub(super) fn once(&self) -> Self
    where
        C: Clone,
    {
        Self {
            line: self.line.once(),
            ..self.clone()
        }
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Records<C> {
    pub(super) async fn run(
        &self,
        script: &Script,
        key: &RecordKey,
        args: &[&[u8]],
    ) -> Result<Value, StoreError> {
        let name = self.name(key);
        Ok(self.line.run(script, &name, args).await?)
    }

    /// The same with a script that tells waiters, unless none is to be told.
    pub(super) async fn run_telling(
        &self,
        script: &Script,
        key: &RecordKey,
        args: &[&[u8]],
    ) -> Result<Value, StoreError> {
        match self.quiet() {
            [] => self.run(script, key, args).await,
            quiet => self.run(script, key, &[args, quiet].concat()).await,
        }
    }

    /// Removes whatever is there. A connection that may try several times could remove the record of the next attempt
    /// too, so by such a one only what is there now is removed.
    pub(super) async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        let expected = match self.line.tries_once() {
            true => Some(Vec::new()),
            false => self.beginning(key).await?,
        };
        let Some(expected) = expected else {
            return Ok(false);
        };
        let records = self.once();
        let args = [&[&expected[..]], self.quiet()].concat();
        reply::removal(&records.run(&scripts::REMOVE, key, &args).await?)
    }

    /// How a record begins: up to its attempt, which is not in any other record of the key. `None` if there is none, and
    /// nothing of what is no record.
    async fn beginning(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        let peeked = match self.run(&scripts::PEEK, key, &[]).await {
            Ok(reply) => reply::peeked(&reply)?,
            Err(error) if error.kind() == StoreErrorKind::Corrupt => return Ok(Some(Vec::new())),
            Err(error) => return Err(error),
        };
        Ok(peeked.map(|mut peeked| {
            peeked.head.truncate(ATTEMPT_END);
            peeked.head
        }))
    }

    /// Renews the leases, each with a reply of its own.
    pub(super) async fn renew(&self, renewals: &[Renewal]) -> Vec<ScriptReply> {
        let line = self.renewals.as_ref().unwrap_or(&self.line);
        let calls = renewals.iter().map(|one| self.renewal(one));
        batch::run(line, calls.collect()).await
    }

    fn renewal(&self, renewal: &Renewal) -> ScriptCall {
        let lease = written::millis(renewal.lease);
        let life = written::life(renewal.lease, renewal.retention);
        ScriptCall {
            script: &scripts::RENEW,
            name: self.name(&renewal.owner.key),
            token: renewal.owner.token,
            millis: Some([lease.to_string(), life.to_string()]),
            quiet: &[],
        }
    }

    /// A call of a script that ends a claim and tells of it.
    pub(super) fn ending(&self, script: &'static Script, owner: &Owner) -> ScriptCall {
        ScriptCall {
            script,
            name: self.name(&owner.key),
            token: owner.token,
            millis: None,
            quiet: self.quiet(),
        }
    }
}
