//! The key itself: what may be one, how it is made, and how it is written into a header.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

use crate::profile::Profile;

const MAX_BYTES: usize = 255;

/// A valid key. Its `Debug` output is a digest: the key itself does not belong in a log.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key(String);

impl Key {
    /// A UUID of version 7, made of the time and 74 random bits.
    ///
    /// # Panics
    ///
    /// If the operating system has no randomness.
    #[expect(
        clippy::expect_used,
        reason = "documented; a key that is not random is worse"
    )]
    pub(crate) fn random(now: SystemTime) -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system has randomness");
        Self(uuid_v7(now, bytes))
    }

    pub(crate) fn new(key: String) -> Result<Self, InvalidKey> {
        check(&key)?;
        Ok(Self(key))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of the header: quoted as the draft wants it, bare for Stripe.
    pub(crate) fn header_value(&self, profile: Profile) -> HeaderValue {
        let text = match profile {
            Profile::Draft => format!("\"{}\"", self.0),
            Profile::Stripe => self.0.clone(),
        };
        // A valid key is visible ASCII, so the fallback is unreachable; an empty key would be refused by the server.
        let mut value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }

    /// Eight hexadecimal digits that tell keys apart in a log (FNV-1a).
    pub(crate) fn digest(&self) -> String {
        let hash = self
            .0
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.digest())
    }
}

fn check(key: &str) -> Result<(), InvalidKey> {
    if key.is_empty() {
        return Err(InvalidKey(Rule::Empty));
    }
    if key.len() > MAX_BYTES {
        return Err(InvalidKey(Rule::TooLong(key.len())));
    }
    let forbidden = |byte: &u8| !byte.is_ascii_graphic() || b"\",;\\".contains(byte);
    match key.bytes().position(|byte| forbidden(&byte)) {
        Some(position) => Err(InvalidKey(Rule::Character(position))),
        None => Ok(()),
    }
}

/// RFC 9562, section 5.7. A clock before 1970 counts as 1970.
fn uuid_v7(now: SystemTime, mut bytes: [u8; 16]) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let (time, rest) = bytes.split_at_mut(6);
    time.copy_from_slice(millis.to_be_bytes().split_at(2).1);
    if let [version, _, variant, ..] = rest {
        *version = 0x70 | (*version & 0x0f);
        *variant = 0x80 | (*variant & 0x3f);
    }
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A key that no server has to accept. The message says which rule it breaks, and does not repeat the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidKey(Rule);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Empty,
    TooLong(usize),
    Character(usize),
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Rule::Empty => write!(f, "the key is empty: expected 1 to {MAX_BYTES} bytes"),
            Rule::TooLong(bytes) => {
                write!(f, "the key has {bytes} bytes: expected 1 to {MAX_BYTES}")
            }
            Rule::Character(position) => write!(
                f,
                "the byte at {position} of the key is not allowed: expected visible ASCII \
                 without quote, comma, semicolon and backslash"
            ),
        }
    }
}

impl std::error::Error for InvalidKey {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_keys_are_uuid_v7_of_their_time() {
        let now = UNIX_EPOCH + Duration::from_millis(0x0123_4567_89ab);
        let key = Key::random(now);
        let text = key.as_str();
        assert_eq!(text.len(), 36);
        assert!(text.starts_with("01234567-89ab-7"), "{text}");
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"), "{text}");
        assert_ne!(Key::random(now), key);
    }

    #[test]
    fn all_random_bits_reach_the_text() {
        let text = uuid_v7(UNIX_EPOCH, [0xff; 16]);
        assert_eq!(text, "00000000-0000-7fff-bfff-ffffffffffff");
    }

    #[test]
    fn clock_before_1970_makes_a_key() {
        let text = uuid_v7(UNIX_EPOCH - Duration::from_secs(5), [0; 16]);
        assert_eq!(text, "00000000-0000-7000-8000-000000000000");
    }

    #[test]
    fn keys_have_1_to_255_visible_characters() {
        assert!(Key::new("!".to_owned()).is_ok());
        assert!(Key::new("k".repeat(255)).is_ok());
        let error = |key: &str| Key::new(key.to_owned()).unwrap_err().to_string();
        assert_eq!(error(""), "the key is empty: expected 1 to 255 bytes");
        assert_eq!(
            error(&"k".repeat(256)),
            "the key has 256 bytes: expected 1 to 255"
        );
        for bad in [
            "a b", "a\tb", "a\u{7f}b", "aäb", "a\"b", "a,b", "a;b", "a\\b", "a\nb",
        ] {
            assert!(
                error(bad).starts_with("the byte at 1 of the key is not allowed"),
                "{bad}"
            );
        }
    }

    #[test]
    fn header_is_quoted_for_the_draft_and_bare_for_stripe() {
        let key = Key::new("order-1".to_owned()).unwrap();
        assert_eq!(key.header_value(Profile::Draft), "\"order-1\"");
        assert_eq!(key.header_value(Profile::Stripe), "order-1");
        assert!(key.header_value(Profile::Draft).is_sensitive());
    }

    #[test]
    fn debug_output_is_a_digest() {
        let key = Key::new("order-1".to_owned()).unwrap();
        assert_eq!(format!("{key:?}"), format!("#{}", key.digest()));
        assert_ne!(
            key.digest(),
            Key::new("order-2".to_owned()).unwrap().digest()
        );
    }
}
