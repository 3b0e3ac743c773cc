//! Records in Redis: for services with more than one instance that have a Redis already.
//!
//! # What it guarantees
//!
//! Every rule of [`Store`], on Redis 5.0 or newer, Valkey, Redis Cluster, and servers that Sentinels watch. Each
//! operation is one command or one Lua script on one key, which the server runs atomically and by its own clock. A
//! claim is one round trip, and its reply has the stored response if there is one. A completion is one round trip, and
//! so is the renewal of all leases of a process.
//!
//! From Redis 7 on, a claim is the command `SET` with `NX` and `GET`, which is much cheaper for the server than a
//! script. Only a duplicate of a running request then needs a second round trip, to a script that returns the rest of
//! its lease. On an older server, that script makes the claim.
//!
//! ```no_run
//! use idempotent_runtime::Idempotency;
//! use idempotent_runtime::store::redis::RedisStore;
//!
//! # async fn connect() -> Result<(), idempotent_runtime::Error> {
//! let store = RedisStore::connect("redis://127.0.0.1:6379").await?.with_prefix("payments:")?;
//! let idempotency = Idempotency::new(store);
//!
//! // Or at the address that Sentinels report; one Sentinel that answers is enough:
//! let url = "redis+sentinel://app:password@10.0.0.1,10.0.0.2,10.0.0.3/payments/0";
//! let store = RedisStore::connect(url).await?;
//! # drop((idempotency, store));
//! # Ok(())
//! # }
//! ```
//!
//! Or with the client that the application has:
//!
//! ```no_run
//! use idempotent_runtime::store::redis::RedisStore;
//!
//! # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
//! let client = redis::Client::open("redis://127.0.0.1:6379")?;
//! let store = RedisStore::from_client(client).await?;
//! for finding in store.check_configuration().await? {
//!     eprintln!("{finding}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What survives what
//!
//! If a record is lost, its key runs again. Redis acknowledges a write before its replicas have it, and by default
//! before its disk has it:
//!
//! | | `appendonly no` | `appendfsync everysec` | `appendfsync always` |
//! | --- | --- | --- | --- |
//! | crash of the application | survives | survives | survives |
//! | crash of the Redis process | lost, or back to the last snapshot | survives, unless the disk is slow at that moment: then the last one or two seconds are lost | survives |
//! | power cut | lost, or back to the last snapshot | the last one or two seconds are lost | survives |
//! | failover to a replica | what the replica did not have yet is lost | the same | the same |
//! | eviction (`maxmemory` with any policy but `noeviction`) | **lost at any time** | the same | the same |
//!
//! With `everysec`, while an earlier `fsync` is not done, the server writes nothing to the file for up to two seconds,
//! but still acknowledges writes. These are only in its memory, and are lost if its process crashes.
//!
//! For payments:
//!
//! ```text
//! appendonly yes
//! appendfsync always
//! no-appendfsync-on-rewrite no   # the default; with `yes` there is no fsync during snapshots and rewrites
//! maxmemory-policy noeviction
//! min-replicas-to-write 1        # with replicas: no writes while none of them keeps up,
//! min-replicas-max-lag 10        # which bounds what a failover loses and does not prevent it
//! ```
//!
//! and a dedicated server, because a cache needs the opposite settings. No setting makes a failover of Redis lossless;
//! if that is not acceptable, keep the records in the database that holds the effect.
//!
//! [`RedisStore::check_configuration`] checks these settings of the server, and [`RedisStore::connect`] logs the
//! findings.
//!
#![doc = include_str!("guide.md")]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::Client;
use ::redis::aio::ConnectionLike;
use async_trait::async_trait;
use bytes::Bytes;

use self::claim::{ClaimCall, PlainSet};
use self::error::NAME;
use self::limit::Limit;
use self::line::Line;
use self::name::LONGEST_PREFIX;
use self::notifications::RedisNotifications;
use self::records::Records;
use self::scripts::Script;
use self::servers::Servers;
use super::finding;
use super::{
    Claim, ClaimRequest, Completion, ListCursor, ListFilter, Listing, Progress, Purged, Release,
    Renewal, Renewed, Store, StoreError, Subscription,
};
#[cfg(doc)]
use super::{StoreErrorKind, Transactor};
use crate::error::{Error, ErrorKind};
use crate::key::RecordKey;
use crate::record::{Owner, Record, StoredResponse};

mod batch;
mod claim;
mod configuration;
mod connect;
mod debt;
mod error;
mod limit;
mod line;
mod link;
mod listing;
mod name;
mod notifications;
mod pulse;
mod reconnecting;
mod records;
mod reply;
mod rights;
mod row;
mod scripts;
mod servers;
mod target;
#[cfg(test)]
mod tests;
mod wire;
mod written;

pub use reconnecting::ReconnectingConnection;

/// Records in Redis. See the [module](self).
#[derive(Clone)]
pub struct RedisStore<C = ReconnectingConnection> {
    records: Records<C>,
    channel: Arc<str>,
    /// `None`: waiters here poll.
    notifications: Option<Arc<RedisNotifications>>,
    plain: PlainSet,
    limit: Limit,
}

impl<C> RedisStore<C> {
    /// A store on a connection that reconnects by itself, or is shared: a `ClusterConnection`, a
    /// [`ReconnectingConnection`], a `ConnectionManager`, a `MultiplexedConnection`. The connection decides what
    /// happens in a fault: see the [module](self#when-the-server-is-gone-silent-or-refuses).
    ///
    /// It has no connection for [notifications](Self::with_notifications), so its waiters poll unless you add one.
    #[must_use]
    pub fn new(connection: C) -> Self {
        Self::on(Line::new(connection))
    }

    fn on(line: Line<C>) -> Self {
        Self {
            records: Records::new(line, RedisStore::DEFAULT_PREFIX),
            channel: channel(RedisStore::DEFAULT_PREFIX),
            notifications: None,
            plain: PlainSet::default(),
            limit: Limit::default(),
        }
    }

    /// Sets the prefix of all keys and of the notification channel. Applications that share a server need different
    /// prefixes, unless they share their keys.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`] unless the prefix is 1 to 64 letters, digits, or `_`, `-`, `.`, `:`, `/`. (No braces:
    /// they would put all records into one slot of a Cluster.)
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self, Error> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte);
        if !(1..=LONGEST_PREFIX).contains(&prefix.len()) || !prefix.bytes().all(is_good) {
            let message = "a prefix is 1 to 64 letters, digits, or any of `_-.:/`";
            return Err(Error::new(ErrorKind::InvalidName, message));
        }
        self.records.prefix = prefix.into();
        self.channel = channel(prefix);
        if let Some(notifications) = &self.notifications {
            self.notifications = Some(Arc::new(notifications.on(Arc::clone(&self.channel))));
        }
        Ok(self)
    }

    /// Wakes the waiters of a running request when it ends, instead of letting them poll.
    ///
    /// The first waiter opens one pub/sub connection, which all waiters share. It is kept, and reopened if it is lost,
    /// until the store is dropped.
    #[must_use]
    pub fn with_notifications(self, client: Client) -> Self {
        self.hearing(Servers::One(Box::new(client)))
    }

    fn hearing(mut self, servers: Servers) -> Self {
        let notifications = RedisNotifications::new(servers, Arc::clone(&self.channel));
        self.notifications = Some(Arc::new(notifications));
        self.records.is_quiet = false;
        self
    }

    /// Publishes no notifications and listens for none: all waiters poll, in other processes too.
    #[must_use]
    pub fn without_notifications(mut self) -> Self {
        self.notifications = None;
        self.records.is_quiet = true;
        self
    }
}

impl RedisStore {
    /// The default [prefix](Self::with_prefix) of keys.
    pub const DEFAULT_PREFIX: &'static str = "idempotent:";

    /// A store with its own connections to the server that the URL names:
    /// `redis://[user:password@]host[:port][/database]`, `rediss://` with TLS, `redis+unix:///path` for a local socket,
    /// and `redis+sentinel://[user:password@]host[:port][,host[:port]...]/service[/database]` for the primary that
    /// Sentinels report.
    ///
    /// It reconnects by itself, uses [notifications](Self::with_notifications), and logs the findings of
    /// [`check_configuration`](Self::check_configuration).
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::InvalidUrl`]: the text is not such a URL.
    /// * [`ErrorKind::FeatureDisabled`]: the URL needs TLS, and no TLS feature of the `redis` crate is enabled.
    /// * [`ErrorKind::Store`]: the server cannot be reached, or refuses the connection; the source says why.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::from_servers(connect::servers(url)?).await
    }

    /// Like [`connect`](RedisStore::connect), with the application's client and its settings (except the linger time of
    /// TCP).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`]: the server cannot be reached, or refuses the connection; the source says why.
    pub async fn from_client(client: Client) -> Result<Self, Error> {
        Self::from_servers(Servers::One(Box::new(client))).await
    }

    async fn from_servers(servers: Servers) -> Result<Self, Error> {
        let store = Self::of_servers(servers);
        connect::probe(&store.records.line.connection()).await?;
        let findings = store.check_configuration().await;
        let findings = findings.map_err(|error| connect::cannot("ask", error))?;
        finding::log(NAME, &findings);
        Ok(store)
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisStore<C> {
    async fn end(
        &self,
        owners: &[Owner],
        script: &'static Script,
    ) -> Vec<Result<Release, StoreError>> {
        let calls = owners
            .iter()
            .map(|owner| self.records.ending(script, owner));
        let replies = batch::run(&self.records.line.once(), calls.collect()).await;
        replies.into_iter().map(reply::release).collect()
    }
}

#[async_trait]
impl<C: ConnectionLike + Clone + Send + Sync + 'static> Store for RedisStore<C> {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        let records = &self.records;
        let name = records.name(&request.owner.key);
        let call = ClaimCall::new(request, name, records.quiet());
        call.run(&records.line.for_claims(), &self.plain).await
    }

    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        let replies = self.records.renew(renewals).await;
        replies.into_iter().map(reply::renewed).collect()
    }

    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        self.limit.check(&self.records.line, bytes.len()).await?;
        let offset = offset.to_string();
        let args: [&[u8]; 3] = [owner.token.as_bytes(), offset.as_bytes(), bytes];
        let script = &scripts::SAVE_PROGRESS;
        let reply = self.records.run(script, &owner.key, &args).await;
        reply::progress(&reply.inspect_err(|_| self.limit.doubt(bytes.len()))?)
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        let response = written::completed(response);
        self.limit.check(&self.records.line, response.len()).await?;
        let ttl = written::millis(ttl).max(1).to_string();
        let args: [&[u8]; 3] = [owner.token.as_bytes(), ttl.as_bytes(), &response];
        let script = &scripts::COMPLETE;
        let reply = self.records.run_telling(script, &owner.key, &args).await;
        reply::completion(&reply.inspect_err(|_| self.limit.doubt(response.len()))?)
    }

    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.end(owners, &scripts::RELEASE).await
    }

    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.end(owners, &scripts::ABANDON).await
    }

    async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let (attempt, grace, life) = (
            attempt.to_string(),
            written::millis(grace).to_string(),
            written::life(grace, retention).to_string(),
        );
        let args = [attempt.as_bytes(), grace.as_bytes(), life.as_bytes()];
        reply::grace(&self.records.run(&scripts::GIVE_GRACE, key, &args).await?)
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        reply::record(&self.records.run(&scripts::GET, key, &[]).await?)
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        self.records.remove(key).await
    }

    /// The server frees what has expired by itself, and does not report it: not even that a record was abandoned.
    async fn purge_expired(&self, _limit: usize) -> Result<Purged, StoreError> {
        Ok(Purged::default())
    }

    async fn list(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        self.records.page(filter, cursor, limit).await
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        match &self.notifications {
            Some(notifications) => {
                let (name, line) = (self.records.name(key), self.records.line.clone());
                notifications.subscribe(key, name, line)
            }
            None => Subscription::none(),
        }
    }

    fn transactor(&self) -> Option<super::Transactor> {
        None
    }
}

/// Never the connection, whose settings may hold a password.
impl<C> fmt::Debug for RedisStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("prefix", &self.records.prefix)
            .field("notifications", &self.notifications)
            .finish_non_exhaustive()
    }
}

fn channel(prefix: &str) -> Arc<str> {
    format!("{prefix}done").into()
}
