//! Events about requests, claims and the store, for metrics and alerts.
//!
//! A service's responses do not show an abandoned key, a slow store or late lease renewals. An [`Observer`] receives an
//! [`Event`] for each of these when it happens. Events borrow all their data, so they allocate nothing; without an
//! observer there is no cost.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use idempotent_runtime::observer::{Event, Observer, Outcome};
//! use idempotent_runtime::{Idempotency, store::memory::MemoryStore};
//!
//! #[derive(Debug, Default)]
//! struct Replays(AtomicU64);
//!
//! impl Observer for Replays {
//!     fn observe(&self, event: &Event<'_>) {
//!         if let Event::Request { outcome: Outcome::Replayed, .. } = event {
//!             self.0.fetch_add(1, Ordering::Relaxed);
//!         }
//!     }
//! }
//!
//! let idempotency = Idempotency::builder(MemoryStore::new())
//!     .observer(Replays::default())
//!     .build();
//! # drop(idempotency);
//! ```
//!
//! The feature `metrics` has a ready-made observer: [`MetricsObserver`](crate::metrics), for the
//! [`metrics`](https://docs.rs/metrics) facade. `examples/opentelemetry.rs` has an observer for OpenTelemetry.
//!
//! # What an observer is not told
//!
//! An event never has a client's key, a scope, a label, a header or a body. [`RecordKey`] is a digest; use it in logs,
//! but not in the labels of a metric, because each request has another one. The operation is the only text, and has few
//! values: the handler's `name`, or its method and route, cut to 128 bytes. A fallback handler, which has no route, is
//! `POST (fallback)`, and a method that is not registered is `_OTHER`. Records store the operation in this form too.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::handle::problem::ProblemCode;
use crate::key::RecordKey;
use crate::operation::stored;
use crate::store::StoreErrorKind;
use crate::unwind::{caught, text_of};

/// Receives events, from within requests and background tasks. It must return soon and must not block. A panic in an
/// observer is caught, is logged once, and does not affect the request.
pub trait Observer: Debug + Send + Sync + 'static {
    /// Something has happened.
    fn observe(&self, event: &Event<'_>);
}

/// How a request was answered, with the names that metrics and
/// [`Idempotency-Status`](crate::IdempotencyBuilder::status_header) use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// `stored`: the handler's response, which is in the record.
    Stored,
    /// `pending`: the handler's response, which will be stored at the end of the stream, or when the store accepts it.
    Pending,
    /// `not-stored`: the handler's or an extractor's response, which is not in the record: a retry runs the handler.
    NotStored,
    /// `replayed`: the stored response.
    Replayed,
    /// `unprotected`: the handler's response, without a key.
    Unprotected,
    /// `degraded`: the handler's response, without protection, because the store was unavailable
    /// ([`OnStoreFailure::FailOpen`](crate::OnStoreFailure::FailOpen)).
    Degraded,
    /// `safe`: the method is safe (RFC 9110, section 9.2.1), so there is nothing to protect.
    Safe,
    /// `disconnected`: no answer. The client disconnected before; a running handler continues in the background.
    Disconnected,
    /// The problem's code.
    Problem(ProblemCode),
}

impl Outcome {
    /// What ends because of a panic has not lost its client.
    pub(crate) fn unless_panicking(self) -> Self {
        match self {
            Self::Disconnected if std::thread::panicking() => {
                Self::Problem(ProblemCode::HandlerFailed)
            }
            outcome => outcome,
        }
    }

    /// How many there are.
    #[cfg(feature = "metrics")]
    pub(crate) const COUNT: usize = 8 + ProblemCode::ALL.len();

    /// Its place among them.
    #[cfg(feature = "metrics")]
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Stored => 0,
            Self::Pending => 1,
            Self::NotStored => 2,
            Self::Replayed => 3,
            Self::Unprotected => 4,
            Self::Degraded => 5,
            Self::Safe => 6,
            Self::Disconnected => 7,
            Self::Problem(code) => 8 + code as usize,
        }
    }

    /// The name, as a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Pending => "pending",
            Self::NotStored => "not-stored",
            Self::Replayed => "replayed",
            Self::Unprotected => "unprotected",
            Self::Degraded => "degraded",
            Self::Safe => "safe",
            Self::Disconnected => "disconnected",
            Self::Problem(code) => code.as_str(),
        }
    }
}

/// An operation of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the method of `Store` with its name")]
pub enum StoreCall {
    Claim,
    Renew,
    SaveProgress,
    Complete,
    Release,
    Abandon,
    GiveGrace,
    Get,
    Remove,
    PurgeExpired,
    List,
    /// Beginning a transaction of `#[tx]`.
    Begin,
    /// Committing a transaction of `#[tx]`.
    Commit,
    /// Rolling back a handler's writes in a transaction.
    Undo,
}

impl StoreCall {
    /// How many there are.
    #[cfg(feature = "metrics")]
    pub(crate) const COUNT: usize = Self::Undo as usize + 1;

    /// The name, as a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Renew => "renew",
            Self::SaveProgress => "save_progress",
            Self::Complete => "complete",
            Self::Release => "release",
            Self::Abandon => "abandon",
            Self::GiveGrace => "give_grace",
            Self::Get => "get",
            Self::Remove => "remove",
            Self::PurgeExpired => "purge_expired",
            Self::List => "list",
            Self::Begin => "begin",
            Self::Commit => "commit",
            Self::Undo => "undo",
        }
    }
}

/// What has happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A request, or a call of a function without HTTP, was answered.
    #[non_exhaustive]
    Request {
        /// Which operation.
        operation: &'a str,
        /// What it was answered with.
        outcome: Outcome,
    },
    /// A store call has ended, or has timed out. A batch is one call, with the first error of its items.
    #[non_exhaustive]
    StoreCall {
        /// [`Store::name`](crate::store::Store::name).
        store: &'static str,
        /// Which call.
        call: StoreCall,
        /// How long it took.
        elapsed: Duration,
        /// What went wrong.
        error: Option<StoreErrorKind>,
    },
    /// An attempt has its claim, or its transaction: it is in flight from now on. While a secret is being rotated,
    /// there is one event for each record of the request.
    #[non_exhaustive]
    Claimed {
        /// Which operation.
        operation: &'a str,
        /// Which record.
        record: RecordKey,
        /// 1, or more if it has taken over from an abandoned attempt.
        attempt: u32,
    },
    /// The claim has ended, in whatever way: there is one event for each [`Claimed`](Self::Claimed).
    #[non_exhaustive]
    ClaimEnded {
        /// Which operation.
        operation: &'a str,
    },
    /// A claim was found lost while its handler ran or its response was being stored: the store has forgotten it, or another attempt
    /// has taken over.
    #[non_exhaustive]
    ClaimLost {
        /// Which operation.
        operation: &'a str,
        /// Which record.
        record: RecordKey,
    },
    /// An attempt of this process has abandoned its key: it has ended without a response, and something may have
    /// happened.
    #[non_exhaustive]
    Abandoned {
        /// Which operation.
        operation: &'a str,
        /// Which record.
        record: RecordKey,
    },
    /// How many abandoned records of an operation the store has, from any process, as of the last look
    /// ([`IdempotencyBuilder::abandoned_check_interval`](crate::IdempotencyBuilder::abandoned_check_interval)).
    #[non_exhaustive]
    AbandonedRecords {
        /// Which operation, as it is stored.
        operation: &'a str,
        /// How many. When the number falls to 0, one event says so.
        records: usize,
    },
    /// An abandoned record has expired and was purged: it was never resolved, and its key is free.
    #[non_exhaustive]
    PurgedAbandoned {
        /// Which operation, as it was stored.
        operation: &'a str,
        /// Which record.
        record: RecordKey,
    },
    /// A batch of renewals has its results.
    #[non_exhaustive]
    Renewals {
        /// Leases that were renewed.
        renewed: usize,
        /// The leases among them that had already ended, so that another attempt could have taken over.
        late: usize,
        /// Claims that the store no longer has.
        lost: usize,
        /// Leases that were not renewed; the renewal will be retried.
        failed: usize,
    },
    /// A replay was answered from memory, without a call of the store.
    CacheHit,
    /// A handler continues in the background, because its client has disconnected.
    BackgroundBegan,
    /// Such a handler has ended: there is one event for each [`BackgroundBegan`](Self::BackgroundBegan).
    BackgroundEnded,
    /// A handler has run, and the store has not accepted its response yet.
    #[non_exhaustive]
    PendingBegan {
        /// How much memory the response takes.
        bytes: usize,
    },
    /// The store has accepted that response, or a later attempt has completed: there is one event for each
    /// [`PendingBegan`](Self::PendingBegan).
    #[non_exhaustive]
    PendingEnded {
        /// As when it began.
        bytes: usize,
    },
}

/// All observers of a handle; none as a rule.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observers(Option<Arc<All>>);

#[derive(Debug)]
struct All {
    observers: Box<[Arc<dyn Observer>]>,
    has_panicked: AtomicBool,
}

impl All {
    /// An observer is the application's own: what it breaks must not end a lease, or lose a response.
    fn tell(&self, event: &Event<'_>) {
        for observer in &self.observers {
            let told = caught(|| observer.observe(event));
            if told.is_err() && !self.has_panicked.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    observer = text_of(&format_args!("{observer:?}")),
                    "an observer panicked, and may miss events from now on"
                );
            }
        }
    }
}

impl Observers {
    pub(crate) fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        if observers.is_empty() {
            return Self(None);
        }
        Self(Some(Arc::new(All {
            observers: observers.into(),
            has_panicked: AtomicBool::new(false),
        })))
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// A request that observers wait for, if there are any.
    pub(crate) fn watch(&self, operation: &str) -> Option<ObservedCall> {
        (!self.is_none()).then(|| ObservedCall::new(self, stored(operation).into()))
    }

    /// The event is made only if there is an observer.
    pub(crate) fn tell<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        if let Some(all) = &self.0 {
            all.tell(&event());
        }
    }
}

/// A call without HTTP that observers wait for. Dropped without a result, its caller has gone.
#[derive(Debug)]
pub(crate) struct ObservedCall {
    observers: Observers,
    operation: Arc<str>,
    outcome: Outcome,
}

impl ObservedCall {
    pub(crate) fn new(observers: &Observers, operation: Arc<str>) -> Self {
        Self {
            observers: observers.clone(),
            operation,
            outcome: Outcome::Disconnected,
        }
    }

    pub(crate) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for ObservedCall {
    fn drop(&mut self) {
        let outcome = self.outcome.unless_panicking();
        self.observers.tell(|| Event::Request {
            operation: &self.operation,
            outcome,
        });
    }
}
