//! What recovery functions were asked.

use super::*;
use crate::plan::{Abandoned, Secrets};

impl Judge {
    /// Where a function decides about crashed attempts, an attempt follows another one only if the function was asked about
    /// that one, and said so.
    pub fn judge_recoveries(&mut self) {
        // Otherwise the function may know the record, and the attempt, by another of the request's records.
        if self.plan.secrets != Secrets::Same {
            return;
        }
        let runs = self.ledger.lock().runs.clone();
        for (number, run) in runs.iter().enumerate() {
            if self.ledger.intent(run.intent).on_abandoned != Abandoned::Recover {
                continue;
            }
            let lives = self.lives_of(run);
            let mut unasked = lives
                .iter()
                .filter(|(life, attempt)| !life.is_tainted && !self.is_asked_for(life, *attempt));
            if let Some((life, attempt)) = unasked.next() {
                let what = format!(
                    "run {number} is attempt {} of record {}, and no recovery function wanted it",
                    attempt + 1,
                    life.key
                );
                return self.violate("I1", what);
            }
        }
    }

    /// Whether this attempt of a record is the first one, or was wanted after the one before it had begun.
    fn is_asked_for(&self, life: &Life, attempt: usize) -> bool {
        let Some(before) = attempt.checked_sub(1) else {
            return true;
        };
        let (from, until) = (life.attempts[before].1, life.attempts[attempt].1);
        let ledger = self.ledger.lock();
        ledger.retries.iter().any(|retry| {
            retry.record == life.key
                && retry.attempt as usize == attempt
                && (from..=until).contains(&retry.at)
        })
    }
}
