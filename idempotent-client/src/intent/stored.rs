//! The form in which intents are stored.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Intent;
use crate::key::InvalidKey;
use crate::known::Latest;

/// A later form has a higher number.
const VERSION: u32 = 1;

/// Every field is always written: some formats do not name them.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    version: u32,
    key: String,
    created_ms: u64,
    #[serde(default)]
    lifetime_ms: Option<u64>,
    #[serde(default)]
    latest_ms: Option<u64>,
    #[serde(default)]
    clock_set_back: bool,
}

impl From<Intent> for Stored {
    fn from(intent: Intent) -> Self {
        let mut known = intent.known();
        // Who has the stored form may send it.
        known.is_elsewhere = true;
        Self {
            version: VERSION,
            key: intent.key.as_str().to_owned(),
            created_ms: millis_at(intent.created),
            lifetime_ms: intent.lifetime.map(millis),
            latest_ms: match known.latest {
                Latest::At(latest) if latest > intent.created => Some(millis_at(latest)),
                Latest::At(_) | Latest::SetBack => None,
            },
            clock_set_back: known.latest == Latest::SetBack,
        }
    }
}

impl TryFrom<Stored> for Intent {
    type Error = Damaged;

    fn try_from(stored: Stored) -> Result<Self, Damaged> {
        if stored.version != VERSION {
            return Err(Damaged::Version(stored.version));
        }
        let created = time_at(stored.created_ms)?;
        let mut intent = Self::restore(stored.key, created).map_err(Damaged::Key)?;
        intent.lifetime = stored.lifetime_ms.map(Duration::from_millis);
        let latest = stored.latest_ms.map(time_at).transpose()?;
        intent.known().latest = if stored.clock_set_back {
            Latest::SetBack
        } else {
            Latest::At(latest.map_or(created, |latest| latest.max(created)))
        };
        Ok(intent)
    }
}

/// A time before 1970 counts as 1970.
fn millis_at(time: SystemTime) -> u64 {
    millis(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn time_at(millis: u64) -> Result<SystemTime, Damaged> {
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(millis));
    time.ok_or(Damaged::Time)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Why a stored intent is not read. serde turns it into a message of its own error type.
#[derive(Debug)]
pub(super) enum Damaged {
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
    use crate::policy::Policy;

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
    fn what_the_clock_has_shown_is_stored() {
        const HOUR: Duration = Duration::from_secs(3600);
        let (policy, noon) = (Policy::new(), UNIX_EPOCH + 500_000 * HOUR);
        let reload = |intent: &Intent| load(&serde_json::to_string(intent).unwrap()).unwrap();
        let intent = Intent::new_at(noon);
        assert_eq!(intent.age(noon + 2 * HOUR, &policy), Some(2 * HOUR));
        let loaded = reload(&intent);
        assert_eq!(loaded.age(noon + HOUR, &policy), None);
        assert_eq!(loaded.age(noon + 3 * HOUR, &policy), None);
        assert_eq!(reload(&loaded).age(noon + 3 * HOUR, &policy), None);
        assert_eq!(loaded.created(), noon);
        // The other one has not seen it.
        assert_eq!(intent.age(noon + 3 * HOUR, &policy), Some(3 * HOUR));
    }

    #[test]
    fn every_field_is_written_for_formats_that_do_not_name_them() {
        // Such as bincode and postcard, which read as many fields as the type has.
        let intent = Intent::new_at(UNIX_EPOCH + Duration::from_millis(7));
        let json = serde_json::to_string(&intent).unwrap();
        let end = r#","created_ms":7,"lifetime_ms":null,"latest_ms":null,"clock_set_back":false}"#;
        assert!(json.ends_with(end), "{json}");
        let unnamed = format!(r#"[1,"{}",7,null,null,false]"#, intent.key());
        assert_eq!(load(&unnamed).unwrap().key(), intent.key());
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
}
