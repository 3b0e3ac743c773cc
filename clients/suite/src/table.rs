//! The verdicts, as a table for people and for the READMEs.

use std::collections::BTreeMap;

use crate::plan::Fault;
use crate::verdict::Verdict;

const HEAD: [&str; 9] = [
    "client",
    "intents",
    "tries",
    "charges",
    "**duplicates**",
    "without a kill of the client",
    "intents with several keys",
    "waits below `Retry-After`",
    "killed (server, client)",
];

pub(crate) fn verdicts(verdicts: &[Verdict]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.push(HEAD.map(|_| "---".to_owned()));
    rows.extend(verdicts.iter().map(row));
    let lines = rows
        .iter()
        .map(|cells| format!("| {} |\n", cells.join(" | ")));
    lines.collect()
}

fn row(verdict: &Verdict) -> [String; 9] {
    let (early, waits) = (verdict.tally.early, verdict.tally.waits);
    [
        verdict.client.title().to_owned(),
        thousands(verdict.intents),
        thousands(verdict.tally.tries),
        thousands(verdict.charges),
        format!("**{}**", thousands(verdict.duplicates)),
        thousands(verdict.duplicates_in_one_life),
        thousands(verdict.many_keys),
        format!("{} of {}", thousands(early), thousands(waits)),
        format!("{}, {}", verdict.server_kills, verdict.client_kills),
    ]
}

/// How often each fault struck, over all rounds.
pub(crate) fn faults(verdicts: &[Verdict]) -> String {
    let mut counts: BTreeMap<Fault, usize> = BTreeMap::new();
    for (fault, count) in verdicts.iter().flat_map(|verdict| &verdict.tally.faults) {
        *counts.entry(*fault).or_default() += count;
    }
    let counts = counts.iter();
    let counts: Vec<_> = counts
        .map(|(fault, count)| format!("{fault} {}", thousands(*count)))
        .collect();
    counts.join(", ")
}

/// 12,345.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(1000), "1,000");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }
}
