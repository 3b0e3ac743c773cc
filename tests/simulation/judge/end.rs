//! What has come of it all.

use super::*;

impl Judge {
    pub fn judge_effects(&mut self) {
        let runs = self.ledger.lock().runs.clone();
        let mut by_intent: BTreeMap<(usize, &'static str), Vec<usize>> = BTreeMap::new();
        let mut effects: Vec<_> = runs
            .iter()
            .enumerate()
            .flat_map(|(number, run)| {
                run.effects
                    .iter()
                    .map(move |(label, at)| (*at, number, *label))
            })
            .collect();
        effects.sort_unstable();
        for (at, number, label) in effects {
            let before = by_intent.entry((runs[number].intent, label)).or_default();
            for first in before.iter() {
                let follows = self
                    .may_follow(&runs[*first], &runs[number])
                    .and_then(|()| self.was_not_saved(&runs[*first], &runs[number], label));
                if let Err(why) = follows {
                    let intent = runs[number].intent;
                    let what = format!(
                        "intent {intent} took effect ({label}) in run {first} and again in run {number} at \
                         {at}: {why}"
                    );
                    return self.violate("I1", what);
                }
            }
            before.push(number);
        }
    }

    /// Whether the effect of one run may come after that of another one.
    pub(super) fn may_follow(&self, first: &Run, second: &Run) -> Result<(), String> {
        let (before, after) = (self.lives_of(first), self.lives_of(second));
        let mut why = "they share no record".to_owned();
        for (life, attempt) in &before {
            for (other, later) in after.iter().filter(|(other, _)| other.key == life.key) {
                let is_same = std::ptr::eq(*life, *other);
                if life.is_tainted
                    || other.is_tainted
                    || life.end == Some(LifeEnd::Expired)
                    // Each take-over on the way was judged when it happened.
                    || (is_same && attempt != later)
                {
                    return Ok(());
                }
                why = if is_same {
                    format!("both are attempt {} of record {}", attempt + 1, life.key)
                } else {
                    format!("record {} was still alive: {:?}", life.key, life.end)
                };
            }
        }
        Err(why)
    }

    /// A step that is in the record is not run again by a later attempt.
    pub(super) fn was_not_saved(
        &self,
        first: &Run,
        second: &Run,
        label: &str,
    ) -> Result<(), String> {
        // What else is saved says nothing of its effects.
        if self.ledger.intent(first.intent).outcome != HandlerOutcome::Steps {
            return Ok(());
        }
        let after = self.lives_of(second);
        for (life, attempt) in self.lives_of(first) {
            let is_same = |(other, _): &&(&Life, usize)| std::ptr::eq(life, *other);
            let is_later = after
                .iter()
                .find(is_same)
                .is_some_and(|(_, later)| attempt < *later);
            if !is_later || life.is_tainted {
                continue;
            }
            let claimant = self.claimants.get(life.attempts[attempt].0.as_bytes());
            let saved_until = claimant.and_then(|it| it.saved_until);
            let at = first
                .effects
                .iter()
                .find(|(it, _)| *it == label)
                .map(|(_, at)| *at);
            if at.is_some() && at <= saved_until {
                return Err("the step was in the record".to_owned());
            }
        }
        Ok(())
    }

    /// Whether an abandoned record has a reason to be there at the end.
    pub fn is_abandonment_explained(&self, life: LifeId) -> bool {
        let Some(life) = self.lives.get(&life) else {
            return false;
        };
        if self.is_explained(life) {
            return true;
        }
        // While a secret is rotated, all records of a request say what one of them says.
        let intent = |life: &Life| {
            let (token, _) = life.attempts.last()?;
            self.claimants.get(token.as_bytes())?.intent
        };
        life.was_abandoned
            && self.lives.values().any(|other| {
                other.key != life.key && intent(other) == intent(life) && self.is_explained(other)
            })
    }

    pub(super) fn is_explained(&self, life: &Life) -> bool {
        // A question for a record that the store has forgotten finds none, though it was completed.
        if life.is_tainted || life.was_taken_over || self.forgotten.contains(&life.key) {
            return true;
        }
        let runs = self.ledger.lock().runs.clone();
        let has_died = life.attempts.iter().any(|(token, _)| {
            let claimant = self.claimants.get(token.as_bytes());
            claimant.is_none_or(|it| self.ended.contains_key(&it.process))
        });
        // A question of theirs can arrive when they have ended.
        let is_of_life = |run: &Run| {
            life.attempts.iter().any(|(token, _)| {
                let claimant = self.claimants.get(token.as_bytes());
                claimant.is_some_and(|it| it.request.is_some() && it.request == run.request)
            })
        };
        let gave_up = runs
            .iter()
            .any(|run| is_of_life(run) && matches!(run.ended, Some(End::Panicked | End::CutOff)));
        has_died || (life.was_abandoned && gave_up)
    }

    /// Each run that ended in a process that lives is stored, if its record is there.
    pub fn judge_stored(&mut self, present: &BTreeSet<LifeId>) {
        let runs = self.ledger.lock().runs.clone();
        for (number, run) in runs.iter().enumerate() {
            let is_forgotten = self.lives_of(run).iter().any(|(life, _)| life.is_tainted);
            let is_gone = is_forgotten || self.ended.contains_key(&run.process);
            if run.ended != Some(End::Answered) || is_gone {
                continue;
            }
            let is_open = |(id, life): (&LifeId, &Life)| {
                present.contains(id)
                    && self.attempt_of(life, run).is_some()
                    && life.completed.is_none()
                    && !life.is_tainted
            };
            if self.lives.iter().any(is_open) {
                let what = format!("run {number} answered, and its record is not completed");
                return self.violate("I4", what);
            }
        }
    }

    pub fn describe_lives(&self) -> Vec<String> {
        let lives = self.lives.iter();
        lives
            .map(|(number, life)| format!("life {number}: {life:?}"))
            .collect()
    }
}
