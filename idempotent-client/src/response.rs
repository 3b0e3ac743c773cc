//! What a response says in addition to its status.

use http::Response;

use crate::code::Code;
use crate::decision::Conclusion;
use crate::outcome;

/// What a response says about its intent. For [`http::Response`], and for `reqwest::Response` with the feature `reqwest`.
pub trait ResponseExt {
    /// Whether this is the stored answer of an earlier try: `Idempotent-Replayed: true`.
    fn is_replay(&self) -> bool;

    /// The code of its problem. `None` without a code, for a code that this version does not know, and for a response
    /// that this crate did not return.
    fn code(&self) -> Option<Code>;

    /// What happens to the intent. `None` for a response that this crate did not return.
    fn conclusion(&self) -> Option<Conclusion>;
}

impl<B> ResponseExt for Response<B> {
    fn is_replay(&self) -> bool {
        outcome::is_replay(self.headers())
    }

    fn code(&self) -> Option<Code> {
        self.extensions().get().copied()
    }

    fn conclusion(&self) -> Option<Conclusion> {
        self.extensions().get().copied()
    }
}

#[cfg(feature = "reqwest")]
impl ResponseExt for reqwest::Response {
    fn is_replay(&self) -> bool {
        outcome::is_replay(self.headers())
    }

    fn code(&self) -> Option<Code> {
        self.extensions().get().copied()
    }

    fn conclusion(&self) -> Option<Conclusion> {
        self.extensions().get().copied()
    }
}
