//! The words of the attribute's small language, and the nearest one to a misspelt one.

use std::fmt::Display;

/// Every argument with a value that it accepts, for the messages that show how it is written.
pub(crate) const ARGUMENTS: [(&str, &str); 19] = [
    ("ttl_hours", "24"),
    ("ttl_minutes", "90"),
    ("ttl_secs", "3600"),
    ("ttl", "\"24h\""),
    ("header", "\"Idempotency-Key\""),
    ("required", "false"),
    ("key", "order.id"),
    ("scope", "user.id"),
    ("label", "order.number"),
    ("fingerprint", "json"),
    ("fingerprint_headers", "[\"x-api-version\"]"),
    ("lease", "\"30s\""),
    ("in_flight", "\"wait\""),
    ("wait", "\"5s\""),
    ("on_abandoned", "\"retry\""),
    ("replay_errors", "\"4xx\""),
    ("max_response_bytes", "1048576"),
    ("name", "\"payments.create\""),
    ("crate", "my_api::idempotent_runtime"),
];

/// `ttl_hours = 24`: how an argument is written.
pub(crate) fn example(name: &str) -> String {
    let known = ARGUMENTS.iter().find(|(argument, _)| *argument == name);
    let value = known.map_or("...", |(_, value)| value);
    format!("{name} = {value}")
}

/// " (did you mean `ttl_hours`?)" for a word of whose letters about a third are wrong, else nothing.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let allowed = word.chars().count().div_ceil(3);
    let nearest = known
        .map(|candidate| (distance(word, candidate), candidate))
        .min();
    match nearest {
        Some((edits, candidate)) if edits <= allowed => format!(" (did you mean `{candidate}`?)"),
        _ => String::new(),
    }
}

/// "`a`, `b` or `c`".
pub(crate) fn one_of(words: impl Iterator<Item = impl Display>) -> String {
    let words: Vec<_> = words.map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// Levenshtein distance, one row at a time: how many letters to add, drop or change.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, letter) in from.chars().enumerate() {
        let mut left = above + 1;
        let mut next = vec![left];
        for (wanted, above) in to.iter().zip(row.windows(2)) {
            let &[diagonal, above] = above else { continue };
            left = (diagonal + usize::from(letter != *wanted)).min(above.min(left) + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
