//! Recovery: what becomes of a key whose attempt crashed, when the application can find out.

use std::fmt;
use std::time::Duration;

use crate::key::{Key, RecordKey};
use crate::record::StoredResponse;

/// A crashed attempt, as a recovery function sees it.
///
/// It carries what is needed to look for the effect in the systems where it happens: the client's
/// key, the operation, and what the application has given to
/// [`Builder::extension`](crate::Builder::extension), such as a database pool.
pub struct Abandoned {
    pub(crate) key: Key,
    pub(crate) record: RecordKey,
    pub(crate) operation: String,
    pub(crate) attempt: u32,
    pub(crate) age: Duration,
    pub(crate) extensions: http::Extensions,
}

/// What a recovery function has found out.
///
/// It may be asked by several duplicates at once, so it must only look, not act. Whatever it says
/// is applied only if the attempt it was asked about is still the latest.
#[derive(Debug)]
#[non_exhaustive]
pub enum Recovery {
    /// The effect happened, and this is its answer: it is stored and replayed from now on.
    Replay(StoredResponse),
    /// The effect did not happen: run the handler, as the next attempt.
    Retry,
    /// Nobody knows (yet): 409 `outcome-unknown`, and the record stays as it is.
    Unknown,
}

impl Abandoned {
    /// The client's key. Treat it as a secret: it must not reach a log.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The record's key, whose short form is what the logs show.
    #[must_use]
    pub fn record_key(&self) -> RecordKey {
        self.record
    }

    /// The operation: the policy's name, or method and matched route.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// Which attempt crashed: 1, 2, ...
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The time since the record's first claim.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.age
    }

    /// What the application has given to [`Builder::extension`](crate::Builder::extension).
    #[must_use]
    pub fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.extensions.get()
    }
}

impl fmt::Debug for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Abandoned")
            .field("record", &self.record)
            .field("operation", &self.operation)
            .field("attempt", &self.attempt)
            .field("age", &self.age)
            .finish_non_exhaustive()
    }
}
