//! What has become of one request, for the code that put an [`Observed`] into its extensions: the layer that looks for forgotten
//! routes, and tests.
//!
//! Without the features that look, none of this exists, and no request is asked for it.

use std::sync::Arc;
#[cfg(feature = "test-util")]
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Extensions;

/// A request that is watched. All clones are about the same request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed(Arc<Facts>);

#[derive(Debug, Default)]
struct Facts {
    is_taken: AtomicBool,
    #[cfg(feature = "test-util")]
    runs: AtomicUsize,
    #[cfg(feature = "test-util")]
    crash: Option<CrashPoint>,
    #[cfg(feature = "test-util")]
    has_crashed: AtomicBool,
}

/// Where the process of a request dies, as far as its record can tell.
#[cfg(feature = "test-util")]
#[derive(Clone, Copy, Debug)]
pub(crate) enum CrashPoint {
    /// The key is claimed, and nothing has happened yet.
    BeforeHandler,
    /// The handler has returned, and its response is not stored yet.
    AfterHandler,
}

impl Observed {
    /// The one of this request; a request that has none gets one.
    #[cfg(feature = "forgotten-routes")]
    pub(crate) fn of(extensions: &mut Extensions) -> Self {
        extensions.get_or_insert_default::<Self>().clone()
    }

    /// A protected handler has the request: or there is nothing more to be said about it.
    pub(crate) fn take(&self) {
        self.0.is_taken.store(true, Ordering::Release);
    }

    /// Whether a protected handler has had the request.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.is_taken.load(Ordering::Acquire)
    }
}

#[cfg(feature = "test-util")]
impl Observed {
    /// For a request whose attempt crashes.
    pub(crate) fn crashing(point: CrashPoint) -> Self {
        Self(Arc::new(Facts {
            crash: Some(point),
            ..Facts::default()
        }))
    }

    /// How often the handler began for this request: at most once.
    pub(crate) fn runs(&self) -> usize {
        self.0.runs.load(Ordering::Acquire)
    }

    /// Whether the attempt was abandoned at its crash point.
    pub(crate) fn has_crashed(&self) -> bool {
        self.0.has_crashed.load(Ordering::Acquire)
    }

    /// The handler begins.
    pub(super) fn count_run(&self) {
        self.0.runs.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn crash_point(&self) -> Option<CrashPoint> {
        self.0.crash
    }

    pub(super) fn count_crash(&self) {
        self.0.has_crashed.store(true, Ordering::Release);
    }
}

/// A protected handler has the request with these extensions.
pub(super) fn take(extensions: &Extensions) {
    if let Some(observed) = extensions.get::<Observed>() {
        observed.take();
    }
}
