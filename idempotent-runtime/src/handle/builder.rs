//! [`IdempotencyBuilder`]: the settings that all operations share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::request::Parts;
use http::{Extensions, HeaderName};
use serde::Serialize;

use super::filter::HeaderFilter;
use super::inputs::Inputs;
use super::problem::{Problem, Problems};
use super::{Idempotency, Inner, OnStoreFailure, Settings};
use crate::digest::Digest;
use crate::engine::{CheckValues, Crowd, Engine, EngineSettings};
use crate::key::{KeySyntax, RecordKeys};
use crate::observer::{Observer, Observers};
use crate::policy::Policy;
use crate::store::backend::Backend;
use crate::store::shared::shared;
use crate::store::{ReplayCache, Store};

/// Settings of an [`Idempotency`], shared by all its operations.
#[must_use = "a builder does nothing until `build` is called"]
pub struct IdempotencyBuilder {
    store: Arc<dyn Store>,
    replay_cache: Option<ReplayCache>,
    engine: EngineSettings,
    namespace: String,
    secret: Option<Vec<u8>>,
    previous_secrets: Vec<Vec<u8>>,
    is_previously_without_secret: bool,
    secret_check: bool,
    pub(super) observers: Vec<Arc<dyn Observer>>,
    pub(super) abandoned_check_interval: Option<Duration>,
    max_background: Option<usize>,
    pub(super) settings: Settings,
}

impl IdempotencyBuilder {
    pub(super) fn new(store: impl Store) -> Self {
        Self {
            store: shared(store),
            replay_cache: Some(ReplayCache::new()),
            engine: EngineSettings::default(),
            namespace: String::new(),
            secret: None,
            previous_secrets: Vec::new(),
            is_previously_without_secret: false,
            secret_check: true,
            observers: Vec::new(),
            abandoned_check_interval: None,
            max_background: None,
            settings: Settings {
                syntax: KeySyntax::default(),
                digest: Digest::default(),
                scope: None,
                headers: HeaderFilter::default(),
                fingerprint_headers: Vec::new(),
                problems: Problems::default(),
                status_header: false,
                answered_extension: false,
                on_store_failure: OnStoreFailure::default(),
                retry_after: Duration::from_secs(1),
                background: None,
                ttl: None,
                extensions: Extensions::new(),
            },
        }
    }

    /// A name that separates this application's records from those of others on the same store.
    /// Default: empty.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// A secret for the record keys: HMAC-SHA-256 instead of SHA-256, so that a reader of the store cannot test guesses
    /// of clients' keys. Use 32 random bytes: a short secret can be guessed.
    ///
    /// **Changing the secret changes every record key, so live keys run again.** To set the first secret while keys are
    /// alive, also call [`previously_without_secret`](Self::previously_without_secret); to change the secret,
    /// [`previous_secrets`](Self::previous_secrets).
    ///
    /// # Panics
    ///
    /// If the secret is empty.
    #[track_caller]
    pub fn secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        let secret = secret.into();
        assert!(!secret.is_empty(), "an empty secret protects nothing");
        self.secret = Some(secret);
        self
    }

    /// The secrets before the current one, oldest first. With them you rotate the secret without running anything
    /// twice.
    ///
    /// Meanwhile a request has one record per secret, all with the same content. They are claimed oldest first, so any
    /// two instances that share a secret share a record. Each claim and each completion then costs one store call per
    /// secret, plus one check before a response is stored that all claims are still held. Derived keys
    /// ([`Attempt::derived_key`](crate::Attempt::derived_key)) are made with the oldest secret, so that a provider sees
    /// the key that it knows. [`changing_a_service`](crate::changing_a_service#secrets) has the two steps of a
    /// rotation.
    ///
    /// # Panics
    ///
    /// If one of them is empty.
    #[track_caller]
    pub fn previous_secrets<I>(mut self, secrets: I) -> Self
    where
        I: IntoIterator<Item: Into<Vec<u8>>>,
    {
        self.previous_secrets = secrets.into_iter().map(Into::into).collect();
        let is_empty = |secret: &Vec<u8>| secret.is_empty();
        assert!(
            !self.previous_secrets.iter().any(is_empty),
            "an empty secret protects nothing"
        );
        self
    }

    /// Says that the service ran without a secret before the oldest of the [previous secrets](Self::previous_secrets).
    /// Call it when you set the first secret.
    pub fn previously_without_secret(mut self) -> Self {
        self.is_previously_without_secret = true;
        self
    }

    /// Whether this instance compares its secrets with those of the other instances on the store when it starts, and
    /// logs an error if they share none. Default `true`. The check costs one read, and a record of a few bytes per
    /// namespace.
    pub fn secret_check(mut self, check: bool) -> Self {
        self.secret_check = check;
        self
    }

    /// The tenant or user that a key belongs to, for handlers without a `scope = expr` of their own.
    ///
    /// The same key in two scopes is two records. **Without a scope, two tenants who send the same key and request
    /// share its response.** The value is anything that is `Serialize`; all requests with `None` share one scope.
    ///
    /// The function runs for each request. It sees what an authentication layer has put into the request's extensions,
    /// but nothing that the handler's extractors find out. Over HTTP/2 a request has no `Host` header: its host is
    /// `parts.uri.authority()`.
    pub fn scope<F, T>(mut self, resolve: F) -> Self
    where
        F: Fn(&Parts) -> Option<T> + Send + Sync + 'static,
        T: Serialize,
    {
        self.settings.scope = Some(Box::new(move |parts| match resolve(parts) {
            Some(scope) => Inputs::new().scope(&scope),
            None => Inputs::new(),
        }));
        self
    }

    /// Caches completed records in this process, so that a hot replay costs no round trip. Default: a [`ReplayCache`]
    /// of 8 MiB, which asks the store again after 10 s. `None` switches it off. The memory store has no cache.
    pub fn replay_cache(mut self, cache: impl Into<Option<ReplayCache>>) -> Self {
        self.replay_cache = cache.into();
        self
    }

    /// How strictly the key's header is read. Default [`KeySyntax::Lenient`].
    pub fn key_syntax(mut self, syntax: KeySyntax) -> Self {
        self.settings.syntax = syntax;
        self
    }

    /// The hash function for fingerprints. Default [`Digest::Sha256`].
    ///
    /// You can change it while keys are alive, in two steps: first deploy the cargo feature `blake3` to every process,
    /// then change the digest. A process with the feature recognizes requests by either digest, and compares both
    /// before it answers 422 `key-reused`. A process without the feature knows SHA-256 only: to it, the retry of a
    /// request that was digested with BLAKE3 **is another request**.
    pub fn digest(mut self, digest: Digest) -> Self {
        self.settings.digest = digest;
        self
    }

    /// How long one store call may take. Default 2 s. A claim is tried twice, so a request waits for at most twice this
    /// time. The renewal of a lease may take at most 30 s, or 10 times the lease if that is less.
    ///
    /// # Panics
    ///
    /// If the timeout is zero or more than [ten years](crate::Policy::MAX_DURATION).
    #[track_caller]
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.engine.store_timeout = within_bounds(timeout);
        self
    }

    /// How often expired records are purged, a thousand at a time. Default: every minute; zero means never. An expired
    /// record counts as absent even before it is purged, so the interval only affects space, and one log line: if a
    /// request with the key of an expired abandoned record arrives before the purge, the error is not logged. Purging
    /// begins when the handle is built, or with the first request if the handle is built outside of a tokio runtime.
    ///
    /// # Panics
    ///
    /// If it is over [ten years](crate::Policy::MAX_DURATION).
    #[track_caller]
    pub fn purge_interval(mut self, period: Duration) -> Self {
        if !period.is_zero() {
            within_bounds(period);
        }
        self.engine.purge_interval = period;
        self
    }

    /// How long the record of an abandoned attempt is kept after its lease has ended. Until then the key does not run
    /// again, and an operator can find the record. Default 30 days. Then the record is purged: an error is logged with
    /// its operation and record key, and the key is free. (On Redis the server removes an expired record itself, and
    /// nothing is logged or counted.)
    ///
    /// # Panics
    ///
    /// If it is shorter than a millisecond or more than [ten years](crate::Policy::MAX_DURATION).
    #[track_caller]
    pub fn abandoned_retention(mut self, retention: Duration) -> Self {
        self.engine.retention = within_bounds(retention);
        self
    }

    /// The most memory for responses that the store has not accepted yet, in bytes. Default 64 MiB. They are stored as
    /// soon as the store accepts them. Over this bound, a response is stored without its body, and without its headers
    /// if they do not fit either. Its record is still completed, so the handler never runs again.
    pub fn max_pending_bytes(mut self, bytes: usize) -> Self {
        self.engine.max_pending_bytes = bytes;
        self
    }

    /// What happens to a request while the store is unavailable. Default [`OnStoreFailure::FailClosed`].
    pub fn on_store_failure(mut self, choice: OnStoreFailure) -> Self {
        self.settings.on_store_failure = choice;
        self
    }

    /// The `Retry-After` of a 409 `in-flight`, rounded up to whole seconds, at least one. Default 1 s. It is never more
    /// than the rest of the running attempt's lease: by then it is known whether that attempt has crashed. Choose a
    /// longer time if handlers take long.
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.settings.retry_after = pause;
        self
    }

    /// The most handlers that continue in the background. Default: no limit.
    ///
    /// A handler runs to its end even if its client disconnects. If handlers hang while new requests keep arriving,
    /// such handlers pile up. At the limit, a request that would run a handler gets 503 `overloaded` with
    /// `Retry-After`, before it takes a claim. Replays and unprotected requests are still answered.
    ///
    /// Running handlers are never stopped, so handlers whose clients disconnect later can exceed the limit.
    ///
    /// # Panics
    ///
    /// If it is zero: no handler would ever run.
    #[track_caller]
    pub fn max_background_handlers(mut self, most: usize) -> Self {
        assert!(most > 0, "with a bound of zero no handler ever runs");
        self.max_background = Some(most);
        self
    }

    /// How long a completed response is replayed, for operations without a TTL of their own. Counted from the
    /// completion. Default 24 h. Use it to read the TTL from your configuration.
    ///
    /// # Panics
    ///
    /// If it is shorter than a millisecond or more than [ten years](crate::Policy::MAX_DURATION).
    #[track_caller]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.settings.ttl = Some(within_bounds(ttl));
        self
    }

    /// How long a handler with `#[tx]` may take. Default 30 s. After that the handler is dropped, its transaction is
    /// rolled back, and the answer is 503 `store-unavailable`; a retry runs. This bounds how long a hanging handler
    /// holds a connection and its locks, and on SQLite the only writer.
    ///
    /// # Panics
    ///
    /// If it is shorter than a millisecond or more than [ten years](crate::Policy::MAX_DURATION).
    #[track_caller]
    pub fn transaction_timeout(mut self, timeout: Duration) -> Self {
        self.engine.transaction_timeout = within_bounds(timeout);
        self
    }

    /// Request headers that are part of every request's fingerprint: the same key with another value of one of them
    /// gets 422 `key-reused`. Default: none.
    ///
    /// An operation can name more: `#[idempotent(fingerprint_headers = ["x-api-version"])]`. An absent header differs
    /// from an empty one, and the values of a repeated header count in order. `host` is the
    /// authority of the request, over HTTP/2 too. Name only headers that a retry sends unchanged. **If you add or remove one while keys are alive, retries of older requests get 422.**
    pub fn fingerprint_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.settings.fingerprint_headers = names.into_iter().collect();
        self
    }

    /// Which response headers are stored. Default: those of [`HeaderFilter::default`](HeaderFilter).
    pub fn stored_headers(mut self, filter: HeaderFilter) -> Self {
        self.settings.headers = filter;
        self
    }

    /// The URL at which this application documents its problems. The `type` member and the `Link` header of a problem
    /// are this URL, `#` and the code. Default: the guide [`answers`](crate::answers) on docs.rs.
    pub fn problem_type_base(mut self, url: impl Into<String>) -> Self {
        self.settings.problems.documentation = url.into().into();
        self
    }

    /// Renders problems in your own format; [`Problem`] has an example. Keep the status ([`Problem::status`]). A
    /// missing `Retry-After` is added.
    pub fn render_problems<F>(mut self, render: F) -> Self
    where
        F: Fn(&Problem) -> Response + Send + Sync + 'static,
    {
        self.settings.problems.renderer = Some(Arc::new(render));
        self
    }

    /// A value for recovery functions, such as a database pool. They get it from
    /// [`Abandoned::extension`](crate::Abandoned::extension).
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.settings.extensions.insert(value);
        self
    }

    /// Makes the handle.
    #[must_use]
    pub fn build(mut self) -> Idempotency {
        let every = || self.default_abandoned_check_interval();
        self.engine.abandoned_check_interval = self.abandoned_check_interval.unwrap_or_else(every);
        let observers = Observers::new(self.observers);
        let most = self.max_background;
        let most = most.or_else(|| (!observers.is_none()).then_some(usize::MAX));
        self.settings.background = most.map(|most| Crowd::of_at_most(most, observers.clone()));
        let backend = Backend::new(self.store, self.replay_cache);
        let unkeyed = self.is_previously_without_secret.then_some(None);
        let previous = self.previous_secrets.iter().map(|secret| Some(&**secret));
        let current = self.secret.as_deref();
        let secrets = unkeyed.into_iter().chain(previous).chain([current]);
        let keys = RecordKeys::new(&self.namespace, secrets);
        let check_values = (self.secret_check && !backend.is_in_process()).then(|| {
            let (key, values) = keys.check_values();
            CheckValues { key, values }
        });
        Idempotency(Arc::new(Inner {
            engine: Engine::new(backend, self.engine, check_values, observers),
            keys,
            transaction_timeout: self.engine.transaction_timeout,
            settings: self.settings,
        }))
    }
}

#[track_caller]
pub(super) fn within_bounds(duration: Duration) -> Duration {
    let is_zero = duration < Duration::from_millis(1);
    assert!(!is_zero, "a duration of zero forgets a payment at once");
    assert!(
        duration <= Policy::MAX_DURATION,
        "a duration is at most ten years"
    );
    duration
}

impl fmt::Debug for IdempotencyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyBuilder").finish_non_exhaustive()
    }
}
