//! Something that is to happen once, and its key.

mod stored;

use std::fmt;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::key::{InvalidKey, Key};
use crate::known::{Known, Shared};
use crate::policy::Policy;
use stored::Stored;

/// Something that must happen only once (one payment, one order), with its key.
///
/// Make an intent once, and **save it with the order that it belongs to, before the first send**. After a crash, load
/// the saved intent and send it again: the key is the same, so the server runs the operation at most once.
///
/// ```
/// use idempotent_client::Intent;
///
/// let intent = Intent::new();
/// let saved = serde_json::to_string(&intent)?;     // into a column of the order, in the order's transaction
///
/// let loaded: Intent = serde_json::from_str(&saved)?;
/// assert_eq!(loaded.key(), intent.key());
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// Clones are the same intent: they share the key, and they know of each other's tries. Nothing in this crate makes
/// a second key for an intent. Delete the saved intent when the application has acted on the answer.
///
/// # Other processes
///
/// This process cannot see them. An intent that was serialized, or whose key was [read](Self::key) or
/// [chosen](Self::with_key) by the application, may be in another process, which may send it at the same time. A 4xx to
/// the first try here says nothing about that process: it is [`Rejected`](crate::Conclusion::Rejected) and not
/// [`Closed`](crate::Conclusion::Closed), unless the server marks it as the stored answer. **An intent that was
/// deserialized counts as sent**, because the process that saved it may have sent it before it died.
///
/// # The clock
///
/// The age of the key is computed from the greatest reading of the wall clock. If the clock was set back by more than
/// [`Policy::margin`], the age is unknown from then on, and the intent stays undecided
/// ([`Reason::Lifetime`](crate::Reason::Lifetime)). Both facts are in the stored form. To keep them over a restart,
/// save the intent again after a call that ended as undecided.
///
/// # Stored form
///
/// `{"version":1,"key":"...","created_ms":1767225600000,"lifetime_ms":null,"latest_ms":null,"clock_set_back":false}`:
/// `lifetime_ms` is the value of [`with_lifetime`](Self::with_lifetime), `latest_ms` the greatest reading of the clock.
/// In a format that names fields, these two and the last one may be missing, and unknown fields are ignored. A form
/// with another version, an invalid key, or without another field does not deserialize: the error says why, and no key
/// is made.
///
/// `Debug` shows a digest of the key; [`key`](Self::key) returns the key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Intent {
    key: Key,
    created: SystemTime,
    lifetime: Option<Duration>,
    shared: Arc<Shared>,
}

impl Intent {
    /// An intent with a new random key, a UUID of version 7.
    ///
    /// # Panics
    ///
    /// If the operating system has no randomness.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "`Default` would make keys in passing"
    )]
    pub fn new() -> Self {
        Self::new_at(SystemTime::now())
    }

    /// [`new`](Self::new) by another clock, such as that of a test.
    ///
    /// # Panics
    ///
    /// If the operating system has no randomness.
    #[must_use]
    pub fn new_at(created: SystemTime) -> Self {
        Self::begin(Key::random(created), Known::new(created), created)
    }

    /// An intent with a key of the application, such as the id of an order that is paid once. Another process may make the same.
    ///
    /// The key must belong to this intent alone, for as long as the server keeps its record. If the intent may have
    /// been sent before, use [`restore`](Self::restore).
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] unless the key is 1 to 255 bytes of visible ASCII without quote, comma, semicolon and backslash.
    pub fn with_key(key: impl Into<String>) -> Result<Self, InvalidKey> {
        Self::with_key_at(key, SystemTime::now())
    }

    /// [`with_key`](Self::with_key) by another clock, such as that of a test.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`], as for [`with_key`](Self::with_key).
    pub fn with_key_at(key: impl Into<String>, created: SystemTime) -> Result<Self, InvalidKey> {
        let known = Known {
            is_elsewhere: true,
            ..Known::new(created)
        };
        Ok(Self::begin(Key::new(key.into())?, known, created))
    }

    /// An intent whose key and time of creation the application has stored itself. It counts as sent before. It has no
    /// earlier readings of the clock: only the stored form of an intent has them.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`], as for [`with_key`](Self::with_key).
    pub fn restore(key: impl Into<String>, created: SystemTime) -> Result<Self, InvalidKey> {
        let known = Known {
            times_sent: 1,
            is_elsewhere: true,
            ..Known::new(created)
        };
        Ok(Self::begin(Key::new(key.into())?, known, created))
    }

    /// How long the server keeps the record of this key, from now on. Replaces [`Policy::lifetime`](crate::Policy::lifetime).
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// The key. It is as secret as the request: log [`Debug`](fmt::Debug) instead.
    ///
    /// A reader of the key may send it, so from now on another process may have the intent.
    #[must_use]
    pub fn key(&self) -> &str {
        self.known().is_elsewhere = true;
        self.key.as_str()
    }

    /// When the key was made, by this machine's clock.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        self.created
    }

    /// The age of the key, by the greatest reading of the wall clock so far, including `now`. `None` once the clock was
    /// set back by more than [`Policy::margin`]. For [`State`](crate::State); a transport of this crate reads the clock
    /// itself.
    #[must_use]
    pub fn age(&self, now: SystemTime, policy: &Policy) -> Option<Duration> {
        self.known().age(self.created, now, policy.clock_margin())
    }

    /// The lifetime of [`with_lifetime`](Self::with_lifetime), if it was set.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// Whether the key may have been sent: by a try of this process, or before the intent was loaded.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        self.known().times_sent > 0
    }

    /// Says that the application has acted on the answer, or has decided by other means: no clone sends the key again,
    /// not even a task that waits for its next try. Delete the saved intent too, because a loaded intent is open.
    ///
    /// A request that was already sent is not cancelled. A call that would retry ends as undecided, with
    /// [`Reason::Closed`](crate::Reason::Closed).
    pub fn close(&self) {
        self.known().is_closed = true;
    }

    /// Whether [`close`](Self::close) was called on a clone, or the answer to one was
    /// [`Closed`](crate::Conclusion::Closed).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.known().is_closed
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.shared.lock()
    }

    pub(crate) fn valid_key(&self) -> &Key {
        &self.key
    }

    fn begin(key: Key, known: Known, created: SystemTime) -> Self {
        Self {
            key,
            created,
            lifetime: None,
            shared: Arc::new(Shared::new(known)),
        }
    }
}

impl fmt::Debug for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intent")
            .field("key", &self.key)
            .field("created", &self.created)
            .field("lifetime", &self.lifetime)
            .field("sent", &self.was_sent())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_know_of_each_others_tries() {
        let intent = Intent::new();
        intent.clone().known().times_sent += 1;
        assert!(intent.was_sent());
    }

    #[test]
    fn other_processes_may_have_what_was_serialized_read_or_chosen() {
        let is_elsewhere = |intent: &Intent| intent.known().is_elsewhere;
        let intent = Intent::new();
        let clone = intent.clone();
        let _ = format!("{intent:?} {:?}", intent.created());
        assert!(!is_elsewhere(&intent));
        serde_json::to_string(&clone).unwrap();
        assert!(is_elsewhere(&intent));
        let intent = Intent::new();
        assert!(!intent.key().is_empty());
        assert!(is_elsewhere(&intent));
        assert!(is_elsewhere(&Intent::with_key("order-1").unwrap()));
    }

    #[test]
    fn debug_output_has_no_key() {
        let intent = Intent::with_key("order-1").unwrap();
        assert!(!format!("{intent:?}").contains("order-1"));
    }
}
