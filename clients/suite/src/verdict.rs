//! What came of a round, from three witnesses: the ledger of the server, the journal of the client, and the network.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use crate::Result;
use crate::arrivals::{Arrivals, Tally};
use crate::journal::{self, Answered};
use crate::ledger::{self, Charge};
use crate::plan::Client;
use crate::till::{Payment, amount_of};

#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) client: Client,
    pub(crate) intents: usize,
    pub(crate) charges: usize,
    /// Charges beyond the first of an intent.
    pub(crate) duplicates: usize,
    /// Duplicates of intents that one life of the client has paid: no kill is to blame.
    pub(crate) duplicates_in_one_life: usize,
    /// Calls of the bank that charged nothing, because a server that was killed had made them before.
    pub(crate) repeated: usize,
    /// Calls of the bank by an attempt that had called already.
    pub(crate) ran_twice: usize,
    /// Intents that were never charged.
    pub(crate) uncharged: usize,
    /// Intents that arrived under more than one key.
    pub(crate) many_keys: usize,
    /// Intents without an answer, and those whose answer is not their charge.
    pub(crate) unanswered: usize,
    pub(crate) wrong_answers: usize,
    pub(crate) tally: Tally,
    pub(crate) server_kills: usize,
    pub(crate) client_kills: usize,
    pub(crate) took: Duration,
}

pub(crate) fn of(
    client: Client,
    intents: usize,
    folder: &Path,
    arrivals: &Arrivals,
) -> Result<Verdict> {
    let Calls {
        mut charges,
        repeated,
        ran_twice,
    } = Calls::of(ledger::read(&folder.join("ledger.jsonl"))?);
    let mut answers = HashMap::new();
    for line in journal::read(&folder.join("journal.jsonl"))? {
        if let Some(answered) = line.answered {
            answers.insert(line.name, answered);
        }
    }
    let mut verdict = Verdict {
        client,
        intents,
        charges: charges.values().map(Vec::len).sum(),
        duplicates: 0,
        duplicates_in_one_life: 0,
        repeated,
        ran_twice,
        uncharged: 0,
        many_keys: 0,
        unanswered: 0,
        wrong_answers: 0,
        tally: arrivals.tally(),
        server_kills: 0,
        client_kills: 0,
        took: Duration::ZERO,
    };
    for number in 0..intents {
        let name = Payment::new(number).intent;
        let charged = charges.remove(&name).unwrap_or_default();
        verdict.uncharged += usize::from(charged.is_empty());
        let duplicates = charged.len().saturating_sub(1);
        let (keys, lives) = arrivals.keys_and_lives(&name);
        verdict.duplicates += duplicates;
        verdict.duplicates_in_one_life += if lives > 1 { 0 } else { duplicates };
        verdict.many_keys += usize::from(keys > 1);
        match answers.get(&name) {
            None => verdict.unanswered += 1,
            Some(answer) if is_right(answer, number, &charged) => {}
            Some(_) => verdict.wrong_answers += 1,
        }
    }
    if let Some(unknown) = charges.keys().next() {
        return Err(format!("{unknown} was charged, and was no intent").into());
    }
    Ok(verdict)
}

/// What the bank was called for.
struct Calls {
    /// By intent.
    charges: HashMap<String, Vec<Charge>>,
    repeated: usize,
    ran_twice: usize,
}

impl Calls {
    fn of(ledger: Vec<Charge>) -> Self {
        let mut calls = Self {
            charges: HashMap::new(),
            repeated: 0,
            ran_twice: 0,
        };
        let mut attempts = HashSet::new();
        for call in ledger {
            // The same attempt twice is a duplicate that the server has run. A later one is the retry of what a kill cut off.
            let is_new = attempts.insert((call.key.clone(), call.attempt));
            calls.ran_twice += usize::from(!is_new);
            if call.is_repeated {
                calls.repeated += 1;
            } else {
                let charges = calls.charges.entry(call.intent.clone()).or_default();
                charges.push(call);
            }
        }
        calls
    }
}

fn is_right(answer: &Answered, number: usize, charged: &[Charge]) -> bool {
    let mut charged = charged.iter();
    let is_charged = charged
        .any(|charge| Some(charge.id) == answer.charge && charge.amount == amount_of(number));
    answer.status == 201 && is_charged
}

impl Verdict {
    /// What is wrong. Of a peer nothing is demanded: its duplicates are counted.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        if !self.client.is_ours() {
            return Vec::new();
        }
        let counts = [
            (self.duplicates, "charges too many"),
            (self.ran_twice, "duplicates that the server has run"),
            (self.uncharged, "intents without a charge"),
            (self.many_keys, "intents with more than one key"),
            (self.unanswered, "intents abandoned while undecided"),
            (
                self.wrong_answers,
                "answers that are not the charge of their intent",
            ),
            (self.tally.early, "retries before `Retry-After` has passed"),
        ];
        let wrong = counts.into_iter().filter(|(count, _)| *count > 0);
        let mut mistakes: Vec<String> = wrong
            .map(|(count, what)| format!("{}: {count} {what}", self.client.name()))
            .collect();
        if self.client == Client::Page && self.tally.preflights == 0 {
            mistakes.push("page: no preflight".to_owned());
        }
        // A suite in which nothing goes wrong shows nothing.
        let has_waited = self.tally.waits > 0 || self.client == Client::Page;
        let was_killed = self.client_kills > 0 || self.client == Client::Page;
        if !has_waited || self.tally.faults.is_empty() || self.server_kills == 0 || !was_killed {
            mistakes.push(format!("{}: too little went wrong", self.client.name()));
        }
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_of_what_a_kill_cut_off_is_no_duplicate_and_a_second_run_of_an_attempt_is_one() {
        let call = |attempt, is_repeated| Charge {
            id: 1,
            intent: "order".to_owned(),
            amount: 10,
            key: "derived".to_owned(),
            attempt,
            is_repeated,
        };
        let calls = Calls::of(vec![call(1, false), call(2, true)]);
        assert_eq!((calls.repeated, calls.ran_twice), (1, 0));
        let calls = Calls::of(vec![call(1, false), call(1, true)]);
        assert_eq!((calls.repeated, calls.ran_twice), (1, 1));
        assert_eq!(calls.charges["order"].len(), 1);
    }
}
