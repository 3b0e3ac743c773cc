//! Lists of words in messages, and the nearest word to a misspelt one.

use std::fmt::Display;

/// " (did you mean `ttl_hours`?)" for a word of whose letters about a third are wrong, else nothing.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let allowed = word.chars().count().div_ceil(3);
    let nearest = known.map(|it| (distance(word, it), it)).min();
    let nearest = nearest.filter(|(edits, _)| *edits <= allowed);
    nearest.map_or_else(String::new, |(_, it)| format!(" (did you mean `{it}`?)"))
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
