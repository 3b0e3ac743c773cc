//! Lengths of time: `90s`, `10m`, `1h30m`, `7d`.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [
    ("d", 24 * 60 * 60 * 1000),
    ("h", 60 * 60 * 1000),
    ("m", 60 * 1000),
    ("s", 1000),
    ("ms", 1),
];

/// Reads `90s`, `10m`, `1h30m`, `7d`, `500ms`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a length of time such as 90s, 10m, 24h or 7d".to_owned();
    let (mut rest, mut millis) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest
            .find(|it: char| !it.is_ascii_digit())
            .ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let unit = after
            .find(|it: char| it.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let unit = UNITS.iter().find(|(name, _)| *name == unit);
        let (_, unit) = unit.ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let more = number.checked_mul(*unit);
        millis = more
            .and_then(|more| millis.checked_add(more))
            .ok_or_else(wrong)?;
        rest = after;
    }
    match text.is_empty() {
        true => Err(wrong()),
        false => Ok(Duration::from_millis(millis)),
    }
}

/// The two greatest units, cut off: `7d3h`, `10m5s`, `250ms`.
pub(crate) fn short(length: Duration) -> String {
    let mut millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (mut text, mut parts) = (String::new(), 0);
    for (name, unit) in UNITS.iter().take(4) {
        let number = millis / unit;
        if number > 0 && parts < 2 {
            text.push_str(&format!("{number}{name}"));
        }
        millis %= unit;
        parts += usize::from(number > 0 || parts > 0);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_is_written() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h30m", 5400), ("7d", 604_800)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        for wrong in [
            "",
            "10",
            "m",
            "10x",
            "-1s",
            "1.5h",
            "99999999999999999999d",
            "9999999999999d",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_two_greatest_units_are_shown() {
        for (millis, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1999, "1s"),
            (61_000, "1m1s"),
            (3_600_000, "1h"),
            (3_605_000, "1h"),
            (93_784_000, "1d2h"),
        ] {
            assert_eq!(short(Duration::from_millis(millis)), text);
        }
    }
}
