//! Something that is to happen once, and its key.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::key::{InvalidKey, Key};

/// The form in which intents are stored. A later one has a higher number.
const VERSION: u32 = 1;

/// Something that is to happen once (one payment, one order), and the key under which it is asked for.
///
/// An intent is made once, and **saved beside what it belongs to before the first send**. After a crash the saved
/// intent is loaded and sent again: the same key, so the server runs the operation at most once.
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
/// # Stored form
///
/// `{"version":1,"key":"...","created_ms":1767225600000}`, with `lifetime_ms` if [`with_lifetime`](Self::with_lifetime)
/// set it. Unknown fields are ignored. What has another version, an invalid key, or lacks a field does not deserialize:
/// the error says why, and no key is made. **An intent that was deserialized counts as sent**, because the process that
/// saved it may have sent it before it died.
///
/// `Debug` shows a digest of the key; [`key`](Self::key) is the key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Intent {
    key: Key,
    created: SystemTime,
    lifetime: Option<Duration>,
    shared: Arc<Shared>,
}

/// What all clones know.
#[derive(Default)]
struct Shared {
    /// How often the key was sent. At least 1 if the intent was restored.
    sent: AtomicU32,
    is_closed: AtomicBool,
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
        let now = SystemTime::now();
        Self::begin(Key::random(now), now)
    }

    /// An intent with a key of the application, such as the id of an order that is paid once.
    ///
    /// The key must belong to this intent alone, for as long as the server keeps its record. Of an intent that may have
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
        Ok(Self::begin(Key::new(key.into())?, created))
    }

    /// An intent whose key and time of creation the application has stored itself. It counts as sent before.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`], as for [`with_key`](Self::with_key).
    pub fn restore(key: impl Into<String>, created: SystemTime) -> Result<Self, InvalidKey> {
        let intent = Self::with_key_at(key, created)?;
        intent.count_send();
        Ok(intent)
    }

    /// How long the server keeps the record of this key, from now on. Replaces [`Policy::lifetime`](crate::Policy::lifetime).
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// The key. It is as secret as the request: a log gets [`Debug`](fmt::Debug) instead.
    #[must_use]
    pub fn key(&self) -> &str {
        self.key.as_str()
    }

    /// When the key was made, by this machine's clock.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        self.created
    }

    /// What [`with_lifetime`](Self::with_lifetime) set.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// Whether the key may have been sent: by a try of this process, or before the intent was loaded.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        self.times_sent() > 0
    }

    /// Says that the application has acted on the answer, or has decided by other means: the key is not sent again by any
    /// clone, also not by a task that waits for its next try. Delete the saved intent with it, because a loaded one is open.
    ///
    /// A request that is under way is not taken back. A call that would go on ends as undecided, with
    /// [`Reason::Closed`](crate::Reason::Closed).
    pub fn close(&self) {
        self.shared.is_closed.store(true, Ordering::SeqCst);
    }

    /// Whether [`close`](Self::close) was called on a clone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed.load(Ordering::SeqCst)
    }

    pub(crate) fn times_sent(&self) -> u32 {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// Called before each try. The number never wraps around to "not sent".
    pub(crate) fn count_send(&self) {
        let more = |sent: u32| sent.checked_add(1);
        let sent = &self.shared.sent;
        let _ = sent.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
    }

    pub(crate) fn valid_key(&self) -> &Key {
        &self.key
    }

    fn begin(key: Key, created: SystemTime) -> Self {
        Self {
            key,
            created,
            lifetime: None,
            shared: Arc::default(),
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

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    key: String,
    created_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifetime_ms: Option<u64>,
}

impl From<Intent> for Stored {
    fn from(intent: Intent) -> Self {
        let created = intent.created.duration_since(UNIX_EPOCH);
        Self {
            version: VERSION,
            key: intent.key.as_str().to_owned(),
            created_ms: millis(created.unwrap_or(Duration::ZERO)),
            lifetime_ms: intent.lifetime.map(millis),
        }
    }
}

impl TryFrom<Stored> for Intent {
    type Error = Damaged;

    fn try_from(stored: Stored) -> Result<Self, Damaged> {
        if stored.version != VERSION {
            return Err(Damaged::Version(stored.version));
        }
        let created = UNIX_EPOCH.checked_add(Duration::from_millis(stored.created_ms));
        Ok(Self {
            lifetime: stored.lifetime_ms.map(Duration::from_millis),
            ..Self::restore(stored.key, created.ok_or(Damaged::Time)?).map_err(Damaged::Key)?
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Why a stored intent is not read. serde turns it into a message of its own error type.
#[derive(Debug)]
enum Damaged {
    Version(u32),
    Time,
    Key(InvalidKey),
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(
                f,
                "the stored intent has version {version}, and this library reads {VERSION}"
            ),
            Self::Time => f.write_str("the stored intent is damaged: its time is out of range"),
            Self::Key(cause) => write!(f, "the stored intent is damaged: {cause}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(json: &str) -> Result<Intent, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn saved_intent_is_the_same_intent() {
        let intent = Intent::new().with_lifetime(Duration::from_secs(3600));
        let json = serde_json::to_string(&intent).unwrap();
        let loaded = load(&json).unwrap();
        assert_eq!(loaded.key(), intent.key());
        assert_eq!(loaded.lifetime(), Some(Duration::from_secs(3600)));
        let lost = intent.created().duration_since(loaded.created()).unwrap();
        assert!(lost < Duration::from_millis(1));
        assert_eq!(serde_json::to_string(&loaded).unwrap(), json);
    }

    #[test]
    fn loaded_intent_counts_as_sent_and_a_new_one_does_not() {
        let intent = Intent::new();
        assert!(!intent.was_sent());
        assert!(
            load(&serde_json::to_string(&intent).unwrap())
                .unwrap()
                .was_sent()
        );
        assert!(Intent::restore("k", SystemTime::now()).unwrap().was_sent());
    }

    #[test]
    fn clones_know_of_each_others_tries() {
        let intent = Intent::new();
        intent.clone().count_send();
        assert!(intent.was_sent());
    }

    #[test]
    fn count_of_tries_never_wraps_to_not_sent() {
        let intent = Intent::new();
        intent.shared.sent.store(u32::MAX, Ordering::SeqCst);
        intent.count_send();
        assert_eq!(intent.times_sent(), u32::MAX);
    }

    #[test]
    fn damaged_intents_are_clear_errors() {
        let key = |key: &str| load(&format!(r#"{{"version":1,"key":"{key}","created_ms":1}}"#));
        assert!(key("k").is_ok());
        let message = |result: Result<Intent, String>| result.unwrap_err();
        assert!(message(key("")).starts_with("the stored intent is damaged: the key is empty"));
        assert!(message(key("a b")).contains("the byte at 1 of the key is not allowed"));
        assert!(message(key(&"k".repeat(256))).contains("the key has 256 bytes"));
        assert!(
            message(load(r#"{"version":2,"key":"k","created_ms":1}"#))
                .starts_with("the stored intent has version 2, and this library reads 1")
        );
        assert!(message(load(r#"{"key":"k","created_ms":1}"#)).contains("missing field `version`"));
        for damage in [
            "",
            "{",
            "null",
            "5",
            "\"text\"",
            "[]",
            "{}",
            r#"{"version":1,"key":7,"created_ms":1}"#,
            r#"{"version":1,"key":"k"}"#,
            r#"{"version":1,"key":"k","created_ms":-1}"#,
            r#"{"version":1,"created_ms":1}"#,
        ] {
            assert!(load(damage).is_err(), "{damage}");
        }
    }

    #[test]
    fn unknown_fields_and_absurd_times_are_read() {
        let intent = load(r#"{"version":1,"key":"k","created_ms":1,"later":true}"#).unwrap();
        assert_eq!(intent.created(), UNIX_EPOCH + Duration::from_millis(1));
        let far = format!(
            r#"{{"version":1,"key":"k","created_ms":{},"lifetime_ms":{0}}}"#,
            u64::MAX
        );
        assert!(load(&far).is_ok());
    }

    #[test]
    fn debug_output_has_no_key() {
        let intent = Intent::with_key("order-1").unwrap();
        assert!(!format!("{intent:?}").contains("order-1"));
    }
}
