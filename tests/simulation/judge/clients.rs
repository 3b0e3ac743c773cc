//! What clients were told.

use super::*;

impl Judge {
    pub fn answered(&mut self, request: u64, client: &Client, answer: &Answer) {
        self.requests += 1;
        self.failed += u64::from(answer.said == Said::Unavailable);
        let intent = self.ledger.intent(client.intent);
        match &answer.said {
            Said::Done(text) => match parse_answer(text) {
                Some((run, of_intent, variant)) => {
                    if of_intent != client.intent || variant != client.variant {
                        let what = format!(
                            "intent {}.{} was shown the answer of {of_intent}.{variant}",
                            client.intent, client.variant
                        );
                        self.violate("I5", what);
                    }
                    self.judge_done(run, answer.is_replay);
                }
                None => self.violate("I2", format!("an answer that no handler gave: {text:?}")),
            },
            Said::NotRetained => {
                let is_possible = self.plan.largest_response < usize::MAX
                    || self.plan.max_pending_bytes < 1_000_000;
                if !is_possible {
                    self.violate("I2", "an answer was not retained without a reason".into());
                }
            }
            Said::Panicked if intent.outcome == HandlerOutcome::Panics => {}
            Said::Failed | Said::Panicked => {
                let is_possible = match intent.outcome {
                    HandlerOutcome::Panics | HandlerOutcome::Steps => true,
                    HandlerOutcome::Stream { .. }
                    | HandlerOutcome::Done
                    | HandlerOutcome::NothingHappened => false,
                };
                if !is_possible {
                    let what = format!("intent {} failed, and its handler does not", client.intent);
                    self.violate("I2", what);
                }
            }
            Said::Unavailable => {
                let ledger = self.ledger.lock();
                let ran = ledger
                    .runs
                    .iter()
                    .any(|run| run.request == Some(request) && !run.effects.is_empty());
                drop(ledger);
                if ran && intent.outcome != HandlerOutcome::Steps {
                    let what = "a client was told that nothing was done, and it was done".into();
                    self.violate("truth", what);
                }
            }
            Said::Reused => {
                if !self.is_contested(client.intent) {
                    let what = format!("intent {} was told that its key is reused", client.intent);
                    self.violate("I5", what);
                }
            }
            Said::Nothing => {
                let is_possible = matches!(
                    intent.outcome,
                    HandlerOutcome::NothingHappened | HandlerOutcome::Steps
                );
                if !is_possible {
                    let what =
                        format!("intent {} did nothing, and its handler does", client.intent);
                    self.violate("I2", what);
                }
            }
            Said::Unknown => self.judge_unknown(request),
            Said::InFlight => {}
            Said::Other(_) => self.violate("I2", format!("an answer of no kind: {answer:?}")),
        }
    }

    /// What a handler has answered is not unknown, whatever has become of its claim meanwhile.
    pub(super) fn judge_unknown(&mut self, request: u64) {
        let runs = self.ledger.lock().runs.clone();
        let is_finished =
            |run: &Run| run.request == Some(request) && run.ended == Some(End::Answered);
        let Some(number) = runs.iter().position(is_finished) else {
            return;
        };
        let lives = self.lives_of(&runs[number]);
        let mut lives = lives.iter().map(|(life, _)| life);
        if lives.all(|life| !life.is_tainted && life.end.is_none()) {
            let what = format!("run {number} answered, and its client is told that it is unknown");
            self.violate("I4", what);
        }
    }

    /// Whether another request has the same record.
    pub(super) fn is_contested(&self, intent: usize) -> bool {
        let ledger = self.ledger.lock();
        let own = ledger.intents[intent];
        let identity = |plan: &crate::plan::IntentPlan| {
            let operation = match plan.surface {
                Surface::Http(route) => (route, 0, 0),
                Surface::Function => (100, plan.lease, plan.ttl),
            };
            (operation, plan.scope, plan.key)
        };
        let same = ledger
            .intents
            .iter()
            .filter(|it| identity(it) == identity(&own));
        own.is_reused || (own.key < 100 && same.count() > 1)
    }

    /// Of each of its request's records the life that a run is of, and which attempt of it.
    pub(super) fn lives_of(&self, run: &Run) -> Vec<(&Life, usize)> {
        let mut lives: BTreeMap<RecordKey, (&Life, usize)> = BTreeMap::new();
        for life in self.lives.values() {
            if let Some(attempt) = self.attempt_of(life, run) {
                lives.insert(life.key, (life, attempt));
            }
        }
        lives.into_values().collect()
    }

    /// The answer of a run was shown: it is stored, or the store has refused it.
    pub(super) fn judge_done(&mut self, number: usize, is_replay: bool) {
        let run = self.ledger.lock().runs[number].clone();
        let lives = self.lives_of(&run);
        // The one that it ran under.
        let Some((life, attempt)) = lives
            .iter()
            .rev()
            .find(|(life, _)| Some(life.key) == run.record)
        else {
            return;
        };
        let is_shown = |life: &Life| life.completed.is_some_and(|it| it.run == Some(number));
        if life.is_tainted || self.lives.values().any(is_shown) {
            return;
        }
        let what = match life.completed {
            Some(stored) if stored.run == Some(number) || stored.is_tombstone => return,
            Some(_) if life.was_taken_over => return,
            Some(stored) => {
                format!("run {number} was shown, and stored is {stored:?}")
            }
            None => {
                let has_failed = |token: &Token| {
                    let claimant = self.claimants.get(token.as_bytes());
                    claimant.is_none_or(|it| it.has_failed)
                };
                // What a recovery function has found is answered as if its handler had answered now.
                let is_recovered =
                    self.ledger.intent(run.intent).on_abandoned == crate::plan::Abandoned::Recover;
                let is_excused = if is_replay && is_recovered {
                    // Under any of its records: who has found it may know only one of the secrets.
                    let attempts = lives.iter().flat_map(|(life, _)| &life.attempts);
                    attempts.into_iter().any(|(token, _)| has_failed(token))
                } else {
                    // Before it is stored, the claims under other secrets are renewed.
                    // Its handler may have been told any of them.
                    let has_not_been_told = |(life, attempt): &(&Life, usize)| {
                        let (token, _) = &life.attempts[*attempt];
                        let claimant = self.claimants.get(token.as_bytes());
                        claimant.is_none_or(|it| it.has_failed || it.has_failed_to_renew)
                    };
                    let is_unknown = lives.len() > 1 && lives.iter().any(has_not_been_told);
                    !is_replay && (is_unknown || has_failed(&life.attempts[*attempt].0))
                };
                if is_excused {
                    return;
                }
                let what = format!("run {number} was answered before it was stored");
                return self.violate("I4", what);
            }
        };
        self.violate("I2", what);
    }

    /// The store has said of a record that it is abandoned.
    pub fn judge_abandoned(&mut self, key: &RecordKey, life: LifeId, now: Millis) {
        let Some(life) = self.lives.get(&life) else {
            return;
        };
        if life.is_tainted || life.was_abandoned {
            return;
        }
        let token = life.attempts.last().map(|(token, _)| token);
        let Some(claimant) = token
            .and_then(|it| self.claimants.get(it.as_bytes()))
            .cloned()
        else {
            return;
        };
        let Some(run) = self.living_run(&claimant) else {
            return;
        };
        let lease = claimant.lease;
        let excused = self.excused(claimant.process.slot, key, lease, now);
        if excused * 2 < lease {
            let what = format!(
                "record {key} is called abandoned while run {run} is alive in process {:?} (lease {lease} ms, of \
                 which {excused} ms are excused)",
                claimant.process
            );
            self.violate("I8", what);
        }
    }
}
