//! What a test is told about a handler. Without the feature `test-util`, nothing.

use http::Extensions;

#[cfg(feature = "test-util")]
use super::observed::Observed;

/// The test that a request comes from, if it comes from one.
#[derive(Clone, Debug)]
pub(super) struct Tested {
    #[cfg(feature = "test-util")]
    pub(super) observed: Option<Observed>,
}

#[cfg_attr(
    not(feature = "test-util"),
    expect(clippy::unused_self, unused_variables, reason = "nothing is tested")
)]
impl Tested {
    pub(super) fn of(extensions: &Extensions) -> Self {
        Self {
            #[cfg(feature = "test-util")]
            observed: extensions.get().cloned(),
        }
    }

    /// The handler begins.
    pub(super) fn begin(&self) {
        #[cfg(feature = "test-util")]
        if let Some(observed) = &self.observed {
            observed.count_run();
        }
    }
}
