//! When a key was made, if the key says so.

use std::time::{Duration, SystemTime};

use super::Key;

/// The most that a client's clock may differ from this process's: a tenth of the TTL, and never more than this.
const MAX_MARGIN: Duration = Duration::from_secs(5 * 60);

impl Key {
    /// Whether the key says that it is from the future, beyond what clocks may differ by: it would be too young after the TTL. A
    /// key that has no time in it never does.
    pub(crate) fn is_from_the_future(&self, ttl: Duration, now: SystemTime) -> bool {
        let latest = since_epoch(now).saturating_add(margin(ttl));
        made_at(&self.0).is_some_and(|made_at| made_at > latest)
    }

    /// Whether a record of this key may be gone by now, as far as the key tells. It can be there all the same. A key
    /// that has no time in it is never too old.
    ///
    /// A record lives for the TTL after its completion, and it is completed after the key was made. So a key
    /// that is younger than the TTL has its record. An older one can have it, too: its handler ran for a while, or its
    /// first request came late.
    pub(crate) fn may_have_outlived_its_record(&self, ttl: Duration, now: SystemTime) -> bool {
        let lifetime = ttl.saturating_sub(margin(ttl));
        made_at(&self.0).is_some_and(|made_at| since_epoch(now).saturating_sub(made_at) > lifetime)
    }
}

fn margin(ttl: Duration) -> Duration {
    MAX_MARGIN.min(ttl / 10)
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// The time since the Unix epoch in a UUIDv7 (RFC 9562, section 5.7) or a ULID.
fn made_at(key: &[u8]) -> Option<Duration> {
    uuid_v7(key)
        .or_else(|| ulid(key))
        .map(Duration::from_millis)
}

fn uuid_v7(key: &[u8]) -> Option<u64> {
    if key.len() != 36 || key.get(14) != Some(&b'7') {
        return None;
    }
    let mut millis = 0;
    for (place, byte) in key.iter().enumerate() {
        match place {
            8 | 13 | 18 | 23 if *byte == b'-' => {}
            8 | 13 | 18 | 23 => return None,
            _ => {
                let digit = char::from(*byte).to_digit(16)?;
                // The variant of RFC 9562.
                if place == 19 && !(8..12).contains(&digit) {
                    return None;
                }
                if place < 13 {
                    millis = millis << 4 | u64::from(digit);
                }
            }
        }
    }
    Some(millis)
}

/// 26 characters of Crockford's base 32, of which the first ten are the time.
fn ulid(key: &[u8]) -> Option<u64> {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    if key.len() != 26 || !matches!(key.first(), Some(b'0'..=b'7')) {
        return None;
    }
    let mut millis = 0;
    for (place, byte) in key.iter().enumerate() {
        let byte = byte.to_ascii_uppercase();
        let digit = DIGITS.iter().position(|digit| *digit == byte)?;
        if place < 10 {
            millis = millis << 5 | digit as u64;
        }
    }
    Some(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn key(text: &str) -> Key {
        Key::from_text(text).unwrap()
    }

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    /// The example of RFC 9562, appendix A.6, and that of the ULID specification.
    #[test]
    fn times_are_those_of_the_specifications() {
        let uuid = "017F22E2-79B0-7CC3-98C4-DC0C0C07398F";
        assert_eq!(
            made_at(uuid.as_bytes()),
            Some(Duration::from_millis(1_645_557_742_000))
        );
        let lower = uuid.to_ascii_lowercase();
        assert_eq!(made_at(lower.as_bytes()), made_at(uuid.as_bytes()));
        let ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        assert_eq!(
            made_at(ulid.as_bytes()),
            Some(Duration::from_millis(1_469_922_850_259))
        );
    }

    #[test]
    fn keys_without_a_time_have_none() {
        let keys = [
            "order-4711",
            // Version 4, another variant, no hyphens, a letter that is no digit.
            "919108f7-52d1-4320-9bac-f847db4148a8",
            "017f22e2-79b0-7cc3-c8c4-dc0c0c07398f",
            "017f22e279b07cc398c4dc0c0c07398f",
            "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
            "017f22e2079b0-7cc3-98c4-dc0c0c07398f",
            // Too large for 128 bits, a letter that is left out, one character more.
            "81ARZ3NDEKTSV4RRFFQ69G5FAV",
            "01ARZ3NDEKTSV4RRFFQ69G5FAU",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV0",
        ];
        for text in keys {
            assert_eq!(made_at(text.as_bytes()), None, "{text}");
            let (key, late) = (key(text), at(u64::MAX / 1_000_000));
            assert!(!key.may_have_outlived_its_record(DAY, late), "{text}");
            assert!(!key.is_from_the_future(DAY, at(0)), "{text}");
        }
    }

    #[test]
    fn age_is_compared_with_the_ttl_less_the_margin() {
        let made = 1_645_557_742_000;
        let key = key("017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
        let is_too_old = |ttl, age: u64| key.may_have_outlived_its_record(ttl, at(made + age));
        let lifetime = 24 * 60 * 60 * 1000 - 5 * 60 * 1000;
        assert!(!is_too_old(DAY, lifetime));
        assert!(is_too_old(DAY, lifetime + 1));
        let second = Duration::from_secs(1);
        assert!(!is_too_old(second, 900));
        assert!(is_too_old(second, 901));
        let ahead = 5 * 60 * 1000;
        assert!(!key.is_from_the_future(DAY, at(made - ahead)));
        assert!(key.is_from_the_future(DAY, at(made - ahead - 1)));
        assert!(!key.is_from_the_future(second, at(made - 100)));
        assert!(key.is_from_the_future(second, at(made - 101)));
        assert!(key.is_from_the_future(DAY, SystemTime::UNIX_EPOCH - DAY));
        assert!(!key.may_have_outlived_its_record(DAY, SystemTime::UNIX_EPOCH - DAY));
    }
}
