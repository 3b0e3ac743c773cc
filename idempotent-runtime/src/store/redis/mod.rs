//! Records in Redis: for services with more than one instance that have a Redis already.
//!
//! # What it guarantees
//!
//! Every rule of [`Store`], on Redis 5.0 or newer, Valkey, Redis Cluster, and servers that Sentinels watch.
//! Each operation is one command or one Lua script on one key, which the server runs as one step and by its
//! own clock. A claim is one round trip, and its reply is the replay when there is one; so is a completion,
//! and the renewal of all leases of a process.
//!
//! From Redis 7 on a claim is the server's own `SET` with `NX` and `GET`, which costs it a fraction of
//! what a script costs. Only a duplicate of a request that is still running then needs a second round
//! trip, to a script that tells what is left of its lease. An older server is asked by that script at
//! once.
//!
//! ```no_run
//! use idempotent_runtime::Idempotency;
//! use idempotent_runtime::store::redis::RedisStore;
//!
//! # async fn connect() -> Result<(), idempotent_runtime::Error> {
//! let store = RedisStore::connect("redis://127.0.0.1:6379").await?.with_prefix("payments:")?;
//! let idempotency = Idempotency::new(store);
//!
//! // Or where Sentinels say, of which any that answers will do:
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
//! A lost record is a key that runs again. Redis answers before its replicas have a write, and
//! before its disk has it unless it is told otherwise:
//!
//! | | `appendonly no` | `appendfsync everysec` | `appendfsync always` |
//! | --- | --- | --- | --- |
//! | crash of the application | survives | survives | survives |
//! | crash of the Redis process | lost, or back to the last snapshot | survives | survives |
//! | power cut | lost, or back to the last snapshot | the last one or two seconds are lost | survives |
//! | fail-over to a replica | what the replica had not yet is lost | the same | the same |
//! | eviction (`maxmemory` with any policy but `noeviction`) | **lost at any time** | the same | the same |
//!
//! Where money is at stake:
//!
//! ```text
//! appendonly yes
//! appendfsync always
//! maxmemory-policy noeviction
//! min-replicas-to-write 1        # with replicas: no writes while none of them keeps up,
//! min-replicas-max-lag 10        # which bounds what a fail-over loses and does not prevent it
//! ```
//!
//! and a server of its own, because a cache next to it wants the opposite. No setting makes a
//! fail-over of Redis lossless; if that is too little, the record belongs into the database that
//! holds the effect.
//!
//! [`RedisStore::check_configuration`] reads these settings from the server, and [`RedisStore::connect`] logs what
//! it finds.
//!
//! # When the server is gone, silent, or refuses
//!
//! [`RedisStore::connect`] and [`RedisStore::from_client`] use a [`ReconnectingConnection`]: one connection
//! for all operations of the process, and a second one for [hints](RedisStore::with_notifications). There is no
//! pool to be sized, and nothing else of the application waits for it. After a fail-over or a network
//! fault the store works again within 5 s of the moment when a fresh connection would:
//!
//! | the server | what the store does |
//! | --- | --- |
//! | has closed the connection | sends the operation once more over a fresh one: no request fails because a connection was idle. (A release or a removal fails, because its second answer would be wrong.) |
//! | sends nothing while it owes a reply | leaves the connection after 1.5 s, also if every caller has given up sooner; a second longer for each mebibyte that was sent |
//! | says `READONLY`, `MASTERDOWN`, `LOADING` or `CLUSTERDOWN` | connects again, through the same address or by asking the Sentinels, and sends the operation once more. While there is only a replica, it replays what is completed and refuses the rest |
//! | is not there | tries to connect every 50 to 400 ms while there are operations, which wait for one attempt, of at most 1.5 s. If that fails they were certainly not executed |
//! | is over `maxmemory` | [`StoreErrorKind::Full`] for new claims, completions and progress. Leases are renewed all the same, replays go on, and nothing is dropped |
//! | says `NOREPLICAS`, `MISCONF`, `NOPERM`, `WRONGPASS`, ... | [`StoreErrorKind::Refused`]: nothing was written, and the same operation may succeed later. What is completed is replayed |
//! | runs a long script (`BUSY`) | [`StoreErrorKind::Busy`] |
//! | does not take a value of that length (`proto-max-bulk-len`) | [`StoreErrorKind::TooLarge`], and a tombstone is stored: raise the setting, or lower `max_response_bytes`. The server is asked for it before more than 1 MiB is sent, because it closes the connection to a client that sends too much |
//!
//! A connection of another kind, given to [`RedisStore::new`], has its own rules. That of the `redis` crate's
//! [`ConnectionManager`](::redis::aio::ConnectionManager) is replaced when it was closed. It stays with a server that
//! has been demoted, and with one that is silent if [`Idempotency`](crate::Idempotency)'s store time-out
//! is shorter than its `response_timeout`: prefer [`RedisStore::from_client`].
//!
//! # Deployment caveats
//!
//! * **Abandoned records go without a word.** A record that was never completed is there until its
//!   retention has passed ([`IdempotencyBuilder::abandoned_retention`], 30 days by default). Then the server removes
//!   it, as everything that has expired, without a notice: the other stores log an error with its
//!   operation and record key when they purge it, and this one cannot. Redis could publish that a key
//!   has expired, but neither what it held nor to subscribers that were disconnected at the time. So look for them while they
//!   are there: [`Idempotency::list`] with [`RecordStatus::Abandoned`](crate::store::RecordStatus::Abandoned); once a
//!   day is enough for a retention of weeks. And let no `maxmemory-policy` evict them.
//! * **Clocks.** Leases and expiry go by the server's clock. After a fail-over it is another one:
//!   keep the servers' clocks in step.
//! * **Sentinel.** `redis+sentinel://[user:password@]host[:port][,host[:port]...]/service[/database]`.
//!   User and password are those of the servers; what the Sentinels want to be told themselves is
//!   `?sentinel_user=...&sentinel_pass=...`. All of them are asked at once whenever there is no connection,
//!   the first to answer is believed, and the server that it names is asked for its role. With
//!   `rediss+sentinel://` both are spoken to by TLS.
//! * **Cluster.** Pass a `ClusterConnection` to [`RedisStore::new`]: records spread over all slots,
//!   and renewals go out one by one, side by side. [`RedisStore::connect`] is for a single server.
//!   Such a connection tries several times by itself; when its last try is refused, an earlier one may have
//!   been executed, and the error says so.
//!   A Cluster cannot be listed ([`Unsupported`](StoreErrorKind::Unsupported)): its servers have no common order of
//!   keys. List the records of each server by a store of its own, or keep the record keys beside the effects.
//!   Consider [`without_notifications`](RedisStore::without_notifications) if many requests wait for others
//!   (`in_flight = "wait"`): a Cluster tells every node of every message, and there is one for each
//!   record that is waited for.
//! * **Replicas.** Never let a connection read from them; the scripts go to the primary.
//! * **TLS** (`rediss://`) is in the `redis` crate but not turned on by this one. Depend on `redis`
//!   with its feature `tokio-rustls-comp`, and on `rustls` with one crypto provider (its feature
//!   `ring` or `aws_lc_rs`); or on `redis` with `tokio-native-tls-comp`.
//! * **Access control.** The user needs
//!   `+set +get +getrange +strlen +eval +evalsha +setrange +pttl +pexpire +del`, the keys
//!   `~idempotent:*`, and for hints `+publish +subscribe` and the channel `&idempotent:done`. `+scan` is for listing, `+info +config|get` are
//!   for the audit and the longest value, `+role` for servers that Sentinels watch. Give all of the first
//!   group, or there are claims that cannot be completed.
//! * **Passwords.** Who is connected stays connected when a password changes. Let the server take the old
//!   and the new one (`ACL SETUSER app >new`) until every instance has the new one.
//! * **Two releases at once.** A record that another release has written in a layout that this one does not
//!   know is [`StoreErrorKind::Refused`], and is left as it is.
//!
//! # Layout
//!
//! A record is one string under the prefix and 64 hexadecimal digits; `SCAN 0 MATCH idempotent:1f0c*`
//! finds it by the digits that a log shows. It is binary: [`Idempotency::inspect`] reads it. Manually,
//! `GETRANGE idempotent:1f0c... 69 69` is its state (`r` running, `w` running with a waiter,
//! `a` abandoned by its owner, `c` completed; a running one whose lease has ended is abandoned too), and
//! `PTTL` how many milliseconds it lives yet. What follows byte 74 are the label (after a byte that says
//! how long it is) and the operation, and then the response,
//! or the progress of a running one: `GET` shows their text among the other bytes.
//!
//! The key's expiry is the record's, so do not change it while the request is running: the lease is
//! counted by it.
//!
//! [`Idempotency::list`]: crate::Idempotency::list
//! [`Idempotency::inspect`]: crate::Idempotency::inspect
//! [`IdempotencyBuilder::abandoned_retention`]: crate::IdempotencyBuilder::abandoned_retention

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::ConnectionLike;
use ::redis::{Client, Value};
use async_trait::async_trait;
use bytes::Bytes;

use self::claim::Plain;
use self::failure::Failure;
use self::hints::Listener;
use self::limit::Limit;
use self::line::Line;
use self::name::{LONGEST_PREFIX, Name};
use self::script::Script;
use self::servers::Servers;
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
mod failure;
mod hints;
mod limit;
mod line;
mod link;
mod listing;
mod name;
mod reconnecting;
mod reply;
mod script;
mod servers;
mod stored;
mod written;

pub use configuration::{ConfigurationWarning, Severity};
pub use reconnecting::ReconnectingConnection;

const NAME: &str = "redis";

/// Records in Redis. See the [module](self).
#[derive(Clone)]
pub struct RedisStore<C = ReconnectingConnection> {
    line: Line<C>,
    prefix: Arc<str>,
    channel: Arc<str>,
    hints: Hints,
    plain: Plain,
    limit: Limit,
}

/// What is done for waiters.
#[derive(Clone, Debug)]
enum Hints {
    /// Nothing.
    Off,
    /// They are told, and here they poll.
    Told,
    /// They are told, here too.
    Heard(Arc<Listener>),
}

impl<C> RedisStore<C> {
    /// A store on a connection that reconnects by itself, or is shared: a `ClusterConnection`, a
    /// [`ReconnectingConnection`], a `ConnectionManager`, a `MultiplexedConnection`. What becomes of it in
    /// a fault is up to it: see the [module](self#when-the-server-is-gone-silent-or-refuses).
    ///
    /// It knows of no way to listen for [hints](Self::with_notifications), so waiters here poll.
    #[must_use]
    pub fn new(connection: C) -> Self {
        Self::on(Line::new(connection))
    }

    fn on(line: Line<C>) -> Self {
        Self {
            line,
            prefix: RedisStore::DEFAULT_PREFIX.into(),
            channel: channel(RedisStore::DEFAULT_PREFIX),
            hints: Hints::Told,
            plain: Plain::default(),
            limit: Limit::default(),
        }
    }

    /// Sets what the names of keys begin with, and that of the channel for hints. Applications that
    /// share a server need different ones, unless they share their keys.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`] unless it is 1 to 64 letters, digits, or `_`, `-`, `.`, `:`, `/`.
    /// (No braces: they would put all records into one slot of a Cluster.)
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self, Error> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte);
        if !(1..=LONGEST_PREFIX).contains(&prefix.len()) || !prefix.bytes().all(is_good) {
            let message = "a prefix is 1 to 64 letters, digits, or any of `_-.:/`";
            return Err(Error::new(ErrorKind::InvalidName, message));
        }
        self.prefix = prefix.into();
        self.channel = channel(prefix);
        if let Hints::Heard(listener) = &self.hints {
            self.hints = Hints::Heard(Arc::new(listener.on(Arc::clone(&self.channel))));
        }
        Ok(self)
    }

    /// Wakes the waiters of a running request when it ends, instead of letting them poll.
    ///
    /// The first of them opens one pub/sub connection, which all share and which is kept and renewed
    /// until the store is dropped.
    #[must_use]
    pub fn with_notifications(self, client: Client) -> Self {
        self.hearing(Servers::One(Box::new(client)))
    }

    fn hearing(mut self, servers: Servers) -> Self {
        self.hints = Hints::Heard(Arc::new(Listener::new(servers, Arc::clone(&self.channel))));
        self
    }

    /// Publishes nothing and listens to nothing: all waiters poll, in other processes too.
    #[must_use]
    pub fn without_notifications(mut self) -> Self {
        self.hints = Hints::Off;
        self
    }

    /// What a script is called with in addition if it must tell no waiter.
    fn quiet(&self) -> &'static [&'static [u8]] {
        match self.hints {
            Hints::Off => &[b"quiet"],
            Hints::Told | Hints::Heard(_) => &[],
        }
    }

    fn record_name(&self, key: &RecordKey) -> Name {
        Name::new(&self.prefix, key)
    }
}

impl RedisStore {
    /// The prefix of keys that is used unless [another](Self::with_prefix) is set.
    pub const DEFAULT_PREFIX: &'static str = "idempotent:";

    /// A store on a connection of its own: what `redis://[user:password@]host[:port][/database]`
    /// names. `rediss://` is with TLS, `redis+unix:///path` a local socket, and
    /// `redis+sentinel://[user:password@]host[:port][,host[:port]...]/service[/database]` the primary that
    /// Sentinels name.
    ///
    /// It reconnects by itself, gives [hints](Self::with_notifications), and has logged what
    /// [`check_configuration`](Self::check_configuration) found.
    ///
    /// # Errors
    ///
    /// * [`ErrorKind::InvalidUrl`]: it is not such a URL.
    /// * [`ErrorKind::FeatureDisabled`]: it wants TLS, and no feature of the `redis` crate that
    ///   brings it is turned on.
    /// * [`ErrorKind::Store`]: the server is not there, or refuses us; the source says why.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::from_servers(connect::servers(url)?).await
    }

    /// The same with the client that the application has, and with its settings.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`]: the server is not there, or refuses us; the source says why.
    pub async fn from_client(client: Client) -> Result<Self, Error> {
        Self::from_servers(Servers::One(Box::new(client))).await
    }

    async fn from_servers(servers: Servers) -> Result<Self, Error> {
        let connection = ReconnectingConnection::new(servers.clone());
        let connected = connection.connect().await;
        connected.map_err(|error| cannot("connect to", Failure::of_one_try(error).into()))?;
        let store = Self::on(Line::that_tries_once(connection)).hearing(servers);
        let findings = store
            .check_configuration()
            .await
            .map_err(|error| cannot("ask", error))?;
        for finding in findings {
            tracing::warn!(severity = ?finding.severity, "redis store: {finding}");
        }
        Ok(store)
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> RedisStore<C> {
    /// Looks for settings of the server that can lose records, the worst first: eviction, missing
    /// persistence, a replica, a version that is too old.
    ///
    /// A server that does not let us look is no error but a [`ConfigurationWarning`] that says so.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when there is no connection, or the server wants a password.
    pub async fn check_configuration(&self) -> Result<Vec<ConfigurationWarning>, StoreError> {
        configuration::check(&mut self.line.connection()).await
    }

    async fn run(
        &self,
        script: &Script,
        key: &RecordKey,
        args: &[&[u8]],
    ) -> Result<Value, StoreError> {
        let name = self.record_name(key);
        Ok(self.line.run(script, &name, args).await?)
    }

    /// The same with a script that tells waiters, unless none is to be told.
    async fn run_telling(
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

    fn renewal(&self, renewal: &Renewal) -> batch::Call {
        let lease = written::millis(renewal.lease);
        let life = written::life(renewal.lease, renewal.retention);
        batch::Call {
            script: &script::RENEW,
            name: self.record_name(&renewal.owner.key),
            token: renewal.owner.token,
            millis: Some([lease.to_string(), life.to_string()]),
            quiet: &[],
        }
    }

    /// A call of a script that ends a claim and tells of it.
    fn ending(&self, script: &'static Script, owner: &Owner) -> batch::Call {
        batch::Call {
            script,
            name: self.record_name(&owner.key),
            token: owner.token,
            millis: None,
            quiet: self.quiet(),
        }
    }

    /// Fails like the operation, and forgets what was known of the longest value if that may be why.
    fn doubted(&self, length: usize, failure: StoreError) -> StoreError {
        if length > Limit::LEAST {
            self.limit.doubt();
        }
        failure
    }
}

#[async_trait]
impl<C: ConnectionLike + Clone + Send + Sync + 'static> Store for RedisStore<C> {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        let name = self.record_name(&request.owner.key);
        let call = claim::Call::new(request, name, self.quiet());
        call.run(&self.line, &self.plain).await
    }

    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        let calls = renewals.iter().map(|renewal| self.renewal(renewal));
        let replies = batch::run(&self.line, calls.collect()).await;
        replies.into_iter().map(reply::renewed).collect()
    }

    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        self.limit.check(&self.line, bytes.len()).await?;
        let offset = offset.to_string();
        let args: [&[u8]; 3] = [owner.token.as_bytes(), offset.as_bytes(), bytes];
        let reply = self.run(&script::SAVE_PROGRESS, &owner.key, &args).await;
        reply::progress(&reply.map_err(|error| self.doubted(bytes.len(), error))?)
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        let response = written::completed(response);
        self.limit.check(&self.line, response.len()).await?;
        let ttl = written::millis(ttl).max(1).to_string();
        let args: [&[u8]; 3] = [owner.token.as_bytes(), ttl.as_bytes(), &response];
        let reply = self.run_telling(&script::COMPLETE, &owner.key, &args).await;
        reply::completion(&reply.map_err(|error| self.doubted(response.len(), error))?)
    }

    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        let calls = owners
            .iter()
            .map(|owner| self.ending(&script::RELEASE, owner));
        let replies = batch::run(&self.line.once(), calls.collect()).await;
        replies.into_iter().map(reply::release).collect()
    }

    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        let calls = owners
            .iter()
            .map(|owner| self.ending(&script::ABANDON, owner));
        let replies = batch::run(&self.line.once(), calls.collect()).await;
        replies.into_iter().map(reply::release).collect()
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
        reply::grace(&self.run(&script::GIVE_GRACE, key, &args).await?)
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        reply::record(&self.run(&script::GET, key, &[]).await?)
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        let name = self.record_name(key);
        let reply = self
            .line
            .once()
            .run(&script::REMOVE, &name, self.quiet())
            .await;
        reply::removal(&reply?)
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
        self.page(filter, cursor, limit).await
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        match &self.hints {
            Hints::Heard(listener) => {
                listener.subscribe(key, self.record_name(key), self.line.clone())
            }
            Hints::Off | Hints::Told => Subscription::none(),
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
            .field("prefix", &self.prefix)
            .field("hints", &self.hints)
            .finish_non_exhaustive()
    }
}

fn channel(prefix: &str) -> Arc<str> {
    format!("{prefix}done").into()
}

fn cannot(what: &str, error: StoreError) -> Error {
    Error::new(
        ErrorKind::Store,
        format!("could not {what} the redis store"),
    )
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_prefixes_are_taken() {
        let store = || RedisStore::new(());
        for good in ["idempotent:", "a", "Payments_1/eu-west.2:"] {
            assert!(store().with_prefix(good).is_ok(), "{good}");
        }
        for bad in ["", "{slot}:", "a b", "a*", "\u{e4}", "a\n", &"p".repeat(65)] {
            let error = store().with_prefix(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidName, "{bad}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let client = connect::client("redis://user:secret@host").unwrap();
        let debug = format!("{:?}", RedisStore::new(()).with_notifications(client));
        assert!(debug.contains("idempotent:done"), "{debug}");
        assert!(!debug.contains("secret"), "{debug}");
    }
}
