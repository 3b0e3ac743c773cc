//! What has become of one request, for whoever put an [`Observed`] into its extensions: the layer that looks for forgotten
//! routes.
//!
//! Without the feature that looks, none of this exists, and no request is asked for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Extensions;

/// A request that is watched. All clones are about the same request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed(Arc<Facts>);

#[derive(Debug, Default)]
struct Facts {
    is_taken: AtomicBool,
}

impl Observed {
    /// The one of this request; a request that has none gets one.
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

/// A protected handler has the request with these extensions.
pub(super) fn take(extensions: &Extensions) {
    if let Some(observed) = extensions.get::<Observed>() {
        observed.take();
    }
}
