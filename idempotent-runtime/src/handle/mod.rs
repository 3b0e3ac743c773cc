//! [`Idempotency`]: the handle, which an application puts into its state.

mod attempt;
mod builder;
mod decisions;
pub(crate) mod filter;
pub(crate) mod inputs;
mod operator;
pub(crate) mod problem;
mod transactions;
mod watching;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Extensions, HeaderName};

pub use self::attempt::Attempt;
pub use self::builder::IdempotencyBuilder;
pub use self::filter::{
    HeaderFilter, IDEMPOTENCY_DEGRADED, IDEMPOTENCY_STATUS, IDEMPOTENT_REPLAYED,
};
pub use self::inputs::{Argument, Inputs};
use self::problem::Problems;
pub use self::problem::{Problem, ProblemCode};
pub use self::transactions::Transactions;
use crate::digest::Digest;
use crate::engine::{Crashed, Crowd, Engine, Intent, Mover};
use crate::error::Error;
use crate::key::{KeySyntax, RecordKeys};
use crate::recovery::Abandoned;
use crate::store::Store;

type ScopeResolver = Box<dyn Fn(&Parts) -> Inputs + Send + Sync>;

/// The handle: a store, and the settings that all operations share.
///
/// Cheap to clone. A handler under `#[idempotent]` gets the handle from the router's state through axum's
/// [`FromRef`](axum::extract::FromRef): the state is the handle, or has it as a field. For other states, such as
/// `Arc<AppState>`, write `#[idempotent(with = app.idempotency)]`. Without a handle the router does not compile.
///
/// ```
/// use axum::{Router, extract::FromRef, routing::post};
/// use idempotent_runtime::{Idempotency, idempotent, store::memory::MemoryStore};
///
/// #[derive(Clone)]
/// struct AppState {
///     idempotency: Idempotency,
/// }
///
/// impl FromRef<AppState> for Idempotency {
///     fn from_ref(state: &AppState) -> Self {
///         state.idempotency.clone()
///     }
/// }
///
/// #[idempotent(ttl_hours = 24)]
/// async fn create_order() -> &'static str {
///     "ordered"
/// }
///
/// let idempotency = Idempotency::builder(MemoryStore::new())
///     .namespace("shop")
///     .scope(|parts| parts.headers.get("x-tenant").map(|tenant| tenant.as_bytes().to_vec()))
///     .build();
/// let app: Router = Router::new()
///     .route("/orders", post(create_order))
///     .with_state(AppState { idempotency });
/// ```
#[derive(Clone)]
pub struct Idempotency(Arc<Inner>);

struct Inner {
    engine: Engine,
    keys: RecordKeys,
    transaction_timeout: Duration,
    settings: Settings,
}

/// What the builder sets and the handle reads as it is.
struct Settings {
    syntax: KeySyntax,
    digest: Digest,
    scope: Option<ScopeResolver>,
    headers: HeaderFilter,
    fingerprint_headers: Vec<HeaderName>,
    problems: Problems,
    status_header: bool,
    answered_extension: bool,
    on_store_failure: OnStoreFailure,
    retry_after: Duration,
    background: Option<Crowd>,
    ttl: Option<Duration>,
    extensions: Extensions,
}

/// What happens to a request whose key cannot be looked up.
///
/// This applies when the store is unreachable, too slow, or refuses. In other cases the answer is always 503: if the
/// store is full (one client could otherwise make the retries of all others run twice), if the record is locked or was
/// written by another release, or if the store has already reported that a running or crashed attempt has the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnStoreFailure {
    /// 503 `store-unavailable` with `Retry-After`; the handler does not run. The default, and the
    /// only choice that never charges twice.
    #[default]
    FailClosed,
    /// The handler runs without protection, and its response is marked `Idempotency-Degraded:
    /// true`. **A retry may then run it again.** For operations for which running twice is better
    /// than not running.
    FailOpen,
}

impl Idempotency {
    /// A handle on this store, with all defaults.
    pub fn new(store: impl Store) -> Self {
        Self::builder(store).build()
    }

    /// A builder for a handle on this store.
    pub fn builder(store: impl Store) -> IdempotencyBuilder {
        IdempotencyBuilder::new(store)
    }

    /// A handle on the store that a URL names, with all defaults. The URL is `memory:`, `redis://...`,
    /// `postgres://...`, `sqlite:...`, `mysql://...`; see [`store::connect`](crate::store::connect()).
    ///
    /// For other settings, connect to the store and pass it on:
    /// `Idempotency::builder(store::connect(url).await?)`.
    ///
    /// # Errors
    ///
    /// [`Error`] says what is wrong with the URL, or which cargo feature its store needs.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Ok(Self::new(crate::store::connect(url).await?))
    }

    /// The store, for operators: to look at a record, to remove one, to purge. A removal through it frees the key for
    /// this handle at once, and for other handles when their [`ReplayCache`](crate::store::ReplayCache) asks the store
    /// again. ([`forget`](Self::forget) frees the key at once for all handles of this process.)
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &**self.0.engine.store()
    }

    /// Takes no new claims from now on (503 `shutting-down`), and waits until all running handlers are recorded,
    /// including those whose client has disconnected. Returns how many were not recorded by the deadline. Replays are
    /// still answered.
    ///
    /// Call it after the server has stopped accepting and before the process ends. A handler that is not done when the
    /// process ends leaves its key abandoned.
    ///
    /// ```no_run
    /// # use idempotent_runtime::Idempotency;
    /// # use std::time::Duration;
    /// # async fn serve(app: axum::Router, idempotency: Idempotency) -> std::io::Result<()> {
    /// # let stop = std::future::pending::<()>();
    /// # let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    /// axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    /// let unfinished = idempotency.shutdown(Duration::from_secs(30)).await;
    /// # drop(unfinished);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shutdown(&self, deadline: Duration) -> usize {
        let unfinished = self.0.engine.shutdown(deadline).await;
        if unfinished > 0 {
            tracing::warn!(unfinished, "shut down before all requests were recorded");
        }
        unfinished
    }

    /// The number of tasks that [`shutdown`](Self::shutdown) would wait for: one for each handler that runs under a
    /// claim, and one more for each task in the background (a handler whose client has disconnected, a response that is
    /// not stored yet).
    #[must_use]
    pub fn pending(&self) -> usize {
        self.0.engine.tasks().len()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Moves the rest of a handler to a task, from where this is called.
    pub(crate) fn mover(&self) -> Mover {
        Mover::new(self.0.engine.tasks()).counted(self.0.settings.background.as_ref())
    }

    /// Whether so many handlers run on in the background that no other may begin.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.0
            .settings
            .background
            .as_ref()
            .is_some_and(Crowd::is_full)
    }

    pub(crate) fn retry_after(&self) -> Duration {
        self.0.settings.retry_after
    }

    pub(crate) fn record_keys(&self) -> &RecordKeys {
        &self.0.keys
    }

    pub(crate) fn key_syntax(&self) -> KeySyntax {
        self.0.settings.syntax
    }

    pub(crate) fn digest(&self) -> Digest {
        self.0.settings.digest
    }

    pub(crate) fn stored_headers(&self) -> &HeaderFilter {
        &self.0.settings.headers
    }

    pub(crate) fn problems(&self) -> &Problems {
        &self.0.settings.problems
    }

    pub(crate) fn has_status_header(&self) -> bool {
        self.0.settings.status_header
    }

    pub(crate) fn has_answered_extension(&self) -> bool {
        self.0.settings.answered_extension
    }

    /// Whether anything in this process wants to know what a request is answered, apart from a span.
    pub(crate) fn is_reported(&self) -> bool {
        let settings = &self.0.settings;
        settings.status_header
            || settings.answered_extension
            || settings.problems.renderer.is_some()
            || !self.engine().observers().is_none()
    }

    pub(crate) fn on_store_failure(&self) -> OnStoreFailure {
        self.0.settings.on_store_failure
    }

    pub(crate) fn ttl(&self) -> Option<Duration> {
        self.0.settings.ttl
    }

    pub(crate) fn transaction_timeout(&self) -> Duration {
        self.0.transaction_timeout
    }

    pub(crate) fn extensions(&self) -> &Extensions {
        &self.0.settings.extensions
    }

    /// `None` when the application has no resolver.
    pub(crate) fn resolve_scope(&self, parts: &Parts) -> Option<Inputs> {
        let resolve = self.0.settings.scope.as_ref()?;
        Some(resolve(parts))
    }

    pub(crate) fn fingerprint_headers(&self) -> &[HeaderName] {
        &self.0.settings.fingerprint_headers
    }

    /// What a recovery function is told.
    pub(crate) fn describe(&self, intent: &Intent, crashed: Crashed) -> Abandoned {
        Abandoned {
            key: intent.key.clone(),
            record: crashed.record,
            operation: intent.operation.exact().to_owned(),
            scope: intent.scope.clone(),
            attempt: crashed.attempt,
            age: crashed.age,
            steps: crashed.steps,
            extensions: self.extensions().clone(),
        }
    }
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency")
            .field("store", &self.0.engine.store())
            .field("keys", &self.0.keys)
            .field("on_store_failure", &self.0.settings.on_store_failure)
            .finish_non_exhaustive()
    }
}
