//! [`IdempotencyBuilder`]: what an application sets up.

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

/// Settings of an [`Idempotency`].
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

    /// A secret for the record keys: HMAC-SHA-256 instead of SHA-256, so that a reader of the store
    /// cannot test guesses of clients' keys. Use 32 random bytes: one that is short can be guessed itself.
    ///
    /// **Changing the secret changes every record key, so live keys run again.** To set one for the first time or to change
    /// it while keys are alive, name what was in force before:
    /// [`previously_without_secret`](Self::previously_without_secret),
    /// [`previous_secrets`](Self::previous_secrets).
    ///
    /// # Panics
    ///
    /// If it is empty.
    #[track_caller]
    pub fn secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        let secret = secret.into();
        assert!(!secret.is_empty(), "an empty secret protects nothing");
        self.secret = Some(secret);
        self
    }

    /// The secrets that were in force before the current one, oldest first: for rotating the secret
    /// without running anything twice.
    ///
    /// With it a request has a record for each secret, and all are claimed, the oldest first, and say the same: so
    /// any two instances that share a secret share a record. Each claim and completion costs one store call for each
    /// secret meanwhile, and before a response is stored it is asked once whether all claims are still held. Derived keys ([`Attempt::derived_key`](crate::Attempt::derived_key)) are made with the oldest
    /// one, so that a provider sees the key that it knows. The two steps of a rotation are in
    /// [`changing_a_service`](crate::changing_a_service).
    ///
    /// # Panics
    ///
    /// If one is empty.
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

    /// Says that there was a time without a secret, before the oldest of the
    /// [previous secrets](Self::previous_secrets): for setting one for the first time.
    pub fn previously_without_secret(mut self) -> Self {
        self.is_previously_without_secret = true;
        self
    }

    /// Whether this instance compares its secrets with those of the other instances on the store when it
    /// starts, and logs an error if it shares none with them. Default `true`. It costs one read, and a
    /// record of a few bytes for each namespace.
    pub fn secret_check(mut self, check: bool) -> Self {
        self.secret_check = check;
        self
    }

    /// Whose key it is, for handlers that do not say so themselves (`scope = expr`).
    ///
    /// The same key from two scopes is two records. **Without a scope, two tenants who send the same key and request
    /// share its response.** The value is anything that serializes; `None` is a scope that all anonymous requests share.
    ///
    /// It runs for each request. What an authentication layer has put into the extensions is there; what a handler's
    /// extractors find out is not. Over HTTP/2 a request has no `Host` header: its host is `parts.uri.authority()`.
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

    /// Keeps completed records in this process, so that a hot replay costs no round trip. Default: a
    /// [`ReplayCache`] of 8 MiB, answered from for 10 s at most before the store is asked again; `None`
    /// switches it off. The memory store gets none.
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
    /// It can be changed while keys are alive, in two steps: first every process gets the cargo feature
    /// `blake3`, then the digest. A process with the feature knows requests by either digest, and asks
    /// the store by both before it answers 422 `key-reused`. One without it knows SHA-256 only: to it,
    /// the retry of a request that was digested with BLAKE3 **is another request**.
    pub fn digest(mut self, digest: Digest) -> Self {
        self.settings.digest = digest;
        self
    }

    /// How long one store call may take. Default 2 s. A claim is asked for twice before it is given
    /// up, so a request waits for at most twice that. The renewal of a lease may take no longer than 30 s, or 10 leases if that is less.
    ///
    /// # Panics
    ///
    /// If it is zero or more than [ten years](crate::Policy::MAX_DURATION).
    #[track_caller]
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.engine.store_timeout = within_bounds(timeout);
        self
    }

    /// How often expired records are purged, a thousand at a time. Default: every minute; zero means
    /// never. Expired records count as absent even before they are purged. The interval affects space, and one log
    /// line: a request that arrives before the purge replaces an undecided abandoned record without the error.
    /// Purging begins when the handle is built, or with the first request where that is outside of a tokio runtime.
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

    /// How long the record of an abandoned attempt is kept after its lease has ended, so that a crash is
    /// never mistaken for permission, and an operator finds it. Default 30 days. When it is purged, an
    /// error is logged with its operation and record key, and the key is free. (Not on Redis: the server removes an
    /// expired record itself, and nothing is logged or counted.)
    ///
    /// # Panics
    ///
    /// If it is shorter than a millisecond or more than [ten years](crate::Policy::MAX_DURATION).
    #[track_caller]
    pub fn abandoned_retention(mut self, retention: Duration) -> Self {
        self.engine.retention = within_bounds(retention);
        self
    }

    /// The most memory for responses that the store has not taken yet, in bytes. Default 64 MiB. They
    /// are stored as soon as the store takes them. Over the bound a response's body is given up, and its
    /// headers if they have no room either; that the request is done is still stored: the handler never runs
    /// again.
    pub fn max_pending_bytes(mut self, bytes: usize) -> Self {
        self.engine.max_pending_bytes = bytes;
        self
    }

    /// What happens to a request while the store is unavailable. Default [`OnStoreFailure::FailClosed`].
    pub fn on_store_failure(mut self, choice: OnStoreFailure) -> Self {
        self.settings.on_store_failure = choice;
        self
    }

    /// What `Retry-After` says in a 409 `in-flight`, rounded up to whole seconds and at least one. Default
    /// 1 s. It is never more than what is left of the running attempt's lease: by then it is known whether
    /// that attempt has crashed.
    /// Make it longer where handlers take long.
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.settings.retry_after = pause;
        self
    }

    /// The most handlers that run on in the background. Default: any number.
    ///
    /// A handler that has begun runs to its end although its client disconnects. Where clients time out and retry while
    /// handlers hang, such handlers pile up. With this many of them, requests that would begin one more are answered
    /// 503 `overloaded` with `Retry-After`, before a claim. Replays and unprotected requests are still answered.
    ///
    /// Running handlers are never stopped, so handlers whose clients disconnect later can exceed the limit.
    ///
    /// # Panics
    ///
    /// If it is zero: nothing would ever run.
    #[track_caller]
    pub fn max_background_handlers(mut self, most: usize) -> Self {
        assert!(most > 0, "with a bound of zero no handler ever runs");
        self.max_background = Some(most);
        self
    }

    /// How long a completed response is replayed where the operation does not say so itself, for an
    /// application that reads it from its configuration. Counted from the completion. Default 24 h.
    ///
    /// # Panics
    ///
    /// If it is shorter than a millisecond or more than [ten years](crate::Policy::MAX_DURATION).
    #[track_caller]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.settings.ttl = Some(within_bounds(ttl));
        self
    }

    /// How long a handler with `#[tx]` may take. Default 30 s. Over it the handler is dropped, its
    /// transaction is rolled back, and the answer is 503 `store-unavailable`: nothing was done, and the
    /// retry runs. It bounds how long a handler that hangs keeps a connection and its locks; on SQLite,
    /// which has one writer, it keeps all others from writing.
    ///
    /// # Panics
    ///
    /// If it is shorter than a millisecond or more than [ten years](crate::Policy::MAX_DURATION).
    #[track_caller]
    pub fn transaction_timeout(mut self, timeout: Duration) -> Self {
        self.engine.transaction_timeout = within_bounds(timeout);
        self
    }

    /// Request headers that belong to the identity of every request: the same key with another value of
    /// one of them is another request, and answered 422 `key-reused`. Default: none.
    ///
    /// An operation can name more: `#[idempotent(fingerprint_headers = ["x-api-version"])]`. An absent header is not
    /// an empty one, and the values of a repeated one count in order. `host` is the authority of the request, over HTTP/2 too.
    /// Name only what a retry sends unchanged.
    /// **Adding or removing one while keys are alive makes every retry of an older request another request** (422).
    pub fn fingerprint_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.settings.fingerprint_headers = names.into_iter().collect();
        self
    }

    /// Which response headers are stored. Default: [`HeaderFilter`]'s.
    pub fn stored_headers(mut self, filter: HeaderFilter) -> Self {
        self.settings.headers = filter;
        self
    }

    /// Where this application documents its problems, as a URL: the `type` member and the `Link` of a problem are this,
    /// `#` and the code. Default: the documentation of [`ProblemCode`](super::ProblemCode).
    pub fn problem_type_base(mut self, url: impl Into<String>) -> Self {
        self.settings.problems.documentation = url.into().into();
        self
    }

    /// Renders problems in the application's own format, as [`Problem`] shows. The response should keep
    /// [`Problem::status`]; `Retry-After` is added where it belongs and is missing.
    pub fn render_problems<F>(mut self, render: F) -> Self
    where
        F: Fn(&Problem) -> Response + Send + Sync + 'static,
    {
        self.settings.problems.renderer = Some(Arc::new(render));
        self
    }

    /// Something that recovery functions need, such as a database pool: they get it from
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
