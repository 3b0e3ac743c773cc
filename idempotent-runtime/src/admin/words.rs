//! How states, durations, sizes and times are written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::store::RecordStatus;

/// What is unresolved first.
pub(super) const STATES: [RecordStatus; 3] = [
    RecordStatus::Abandoned,
    RecordStatus::InFlight,
    RecordStatus::Completed,
];

/// A state in an address, in JSON and as a class of the style.
pub(super) fn name_of(state: RecordStatus) -> &'static str {
    match state {
        RecordStatus::Abandoned => "abandoned",
        RecordStatus::InFlight => "in-flight",
        RecordStatus::Completed => "completed",
    }
}

/// A state as it is written for people.
pub(super) fn label_of(state: RecordStatus) -> &'static str {
    match state {
        RecordStatus::Abandoned => "abandoned",
        RecordStatus::InFlight => "in flight",
        RecordStatus::Completed => "completed",
    }
}

/// The state with this name.
pub(super) fn state_named(name: &str) -> Option<RecordStatus> {
    STATES.into_iter().find(|state| name_of(*state) == name)
}

/// Whether an operation reads like a method and a route. A name may stand for either.
pub(super) fn reads_like_route(operation: &str) -> bool {
    operation
        .split_once(' ')
        .is_some_and(|(_, path)| path.starts_with('/'))
}

const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];

/// A duration in its two largest units: `3 d 4 h`.
pub(super) fn duration(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    if rest == 0 {
        return format!("{} ms", duration.subsec_millis());
    }
    let mut parts = Vec::with_capacity(2);
    for (secs, unit) in UNITS {
        let count = rest / secs;
        rest %= secs;
        if count > 0 {
            parts.push(format!("{count} {unit}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    parts.join(" ")
}

/// Reads a duration as a filter has it: `90s`, `15min`, `2h`, `7 d`; a number alone is seconds.
pub(super) fn duration_of(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (count, unit) = match text.find(|it: char| !it.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let secs = match unit.trim() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let count: u64 = count.parse().ok()?;
    Some(Duration::from_secs(count.checked_mul(secs)?))
}

/// A number with its thousands apart: `10,000`.
pub(super) fn number(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count of a scan that may have been stopped.
pub(super) fn count(count: usize, is_partial: bool) -> String {
    let number = number(count);
    if is_partial {
        format!("at least {number}")
    } else {
        number
    }
}

/// A time as RFC 3339 has it, to a second, in UTC.
pub(super) fn time(time: SystemTime) -> String {
    let secs = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (year, month, day) = date(secs / 86_400);
    let (hour, minute, second) = (secs / 3_600 % 24, secs / 60 % 60, secs % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date so many days after the first of January 1970: Howard Hinnant's `civil_from_days`.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// Base64 with padding (RFC 4648, section 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * at) & 63) as usize);
            let is_padding = at > chunk.len();
            text.push(
                digit
                    .filter(|_| !is_padding)
                    .map_or('=', |it| char::from(*it)),
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_two_units() {
        for (secs, expected) in [
            (1, "1 s"),
            (60, "1 min"),
            (3_601, "1 h"),
            (7_260, "2 h 1 min"),
            (86_400 * 30 + 3_600, "30 d 1 h"),
        ] {
            assert_eq!(duration(Duration::from_secs(secs)), expected);
        }
        assert_eq!(duration(Duration::from_millis(20)), "20 ms");
    }

    #[test]
    fn durations_are_read() {
        for (text, expected) in [
            ("90", Some(90)),
            ("2h", Some(7_200)),
            (" 7 d ", Some(604_800)),
            ("1min", Some(60)),
            ("", None),
            ("h", None),
            ("-1s", None),
            ("99999999999999999999d", None),
        ] {
            assert_eq!(
                duration_of(text),
                expected.map(Duration::from_secs),
                "{text}"
            );
        }
    }

    #[test]
    fn numbers_and_times_are_written() {
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(count(10_000, true), "at least 10,000");
        assert_eq!(time(UNIX_EPOCH), "1970-01-01T00:00:00Z");
        let leap_day = UNIX_EPOCH + Duration::from_secs(1_709_251_199);
        assert_eq!(time(leap_day), "2024-02-29T23:59:59Z");
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
    }
}
