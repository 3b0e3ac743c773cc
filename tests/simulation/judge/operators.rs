//! What operators decided, and what they were told.

use super::*;
use crate::operator::{Decision, Told};

/// An operator and the claims that were made for its decision.
#[derive(Clone, Debug, Default)]
pub(super) struct Operator {
    decided: Option<(Millis, Decision)>,
    pub(super) tokens: BTreeSet<[u8; 16]>,
    told: Option<Told>,
    /// How often a record has become what was decided.
    changes: u32,
}

impl Judge {
    pub fn operator_decides(&mut self, number: u64, at: Millis, decision: Decision) {
        self.operators.entry(number).or_default().decided = Some((at, decision));
    }

    pub fn operator_called(&mut self, number: u64, operation: &Operation) {
        if let Operation::Claim(claim) = operation {
            let operator = self.operators.entry(number).or_default();
            operator.tokens.insert(*claim.owner.token.as_bytes());
        }
    }

    pub(super) fn operator_of(&self, token: &Token) -> Option<u64> {
        let mut operators = self.operators.iter();
        let found = operators.find(|(_, it)| it.tokens.contains(token.as_bytes()));
        found.map(|(number, _)| *number)
    }

    /// A record was completed or freed for an operator. `is_own`: it was there only for the decision.
    pub(super) fn operator_changed(&mut self, number: u64, is_own: bool) {
        if is_own {
            return;
        }
        let operator = self.operators.entry(number).or_default();
        operator.changes += 1;
        if operator.told == Some(Told::Unchanged) {
            let what = format!("operator {number} was told that nothing was changed: {operator:?}");
            self.violate("truth", what);
        }
    }

    pub fn operator_told(&mut self, number: u64, told: Told) {
        let operator = self.operators.entry(number).or_default();
        operator.told = Some(told);
        let is_true = match told {
            Told::Resolved => operator.changes > 0,
            Told::Unchanged => operator.changes == 0,
            Told::Uncertain => true,
        };
        if !is_true {
            let what = format!("operator {number} was told {told:?}: {operator:?}");
            self.violate("truth", what);
        }
    }

    /// Frees a record by an operator's decision. What has had an effect when the operator looked must not be
    /// freed; what is done later, by an attempt that was not heard of for so long, is not known to anyone.
    pub(super) fn judge_freed(&mut self, id: LifeId, key: &RecordKey, number: u64) {
        let Some((looked_at, _)) = self.operators.get(&number).and_then(|it| it.decided) else {
            return;
        };
        let Some(life) = self.lives.get(&id).cloned() else {
            return;
        };
        if life.is_tainted {
            return;
        }
        let runs = self.ledger.lock().runs.clone();
        let of_life = |run: &Run| self.attempt_of(&life, run).is_some();
        // What was answered under another secret has had its time.
        let is_answered = |run: &Run| {
            self.lives_of(run)
                .iter()
                .any(|(it, _)| it.completed.is_some())
        };
        let was_done =
            |run: &Run| run.effects.iter().any(|(_, at)| *at <= looked_at) && !is_answered(run);
        if let Some(run) = runs.iter().position(|run| of_life(run) && was_done(run)) {
            let what = format!(
                "record {key} was freed by operator {number}, who looked at {looked_at}, and run {run} has had an effect"
            );
            return self.violate("I1", what);
        }
        let lives_on =
            |run: &Run| !self.ended.contains_key(&run.process) || !run.effects.is_empty();
        if runs.iter().any(|run| of_life(run) && lives_on(run)) {
            self.forgotten(Some(id));
        }
    }
}
