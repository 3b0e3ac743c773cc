//! What the engines did, and what the store made of it.

use idempotent_runtime::store::Claim;

use super::*;
use crate::link::Reply;

impl Judge {
    pub fn called(
        &mut self,
        process: ProcessId,
        request: Option<(u64, usize)>,
        operation: &Operation,
        now: Millis,
    ) {
        match operation {
            Operation::Claim(claim) => {
                let claimant = Claimant {
                    process,
                    request: request.map(|(request, _)| request),
                    intent: request.map(|(_, intent)| intent),
                    lease: claim.lease.as_millis() as Millis,
                    sent_at: now,
                    has_failed: false,
                    has_failed_to_complete: false,
                    has_failed_to_renew: false,
                    pending_bytes: 0,
                    saves: BTreeMap::new(),
                    saved_until: None,
                };
                let token = *claim.owner.token.as_bytes();
                self.claimants.entry(token).or_insert(claimant);
            }
            Operation::Complete(owner, response, _) => {
                // The answer of another request's run was read from the store a moment ago.
                let of = |run: usize| self.ledger.lock().runs.get(run)?.request;
                let of = run_of(response).and_then(of);
                if let Some(claimant) = self.claimants.get_mut(owner.token.as_bytes())
                    && claimant.has_failed_to_complete
                {
                    let is_own = of.is_none() || of == claimant.request;
                    let has_body = response.body.is_some() && is_own;
                    claimant.pending_bytes = if has_body { response.size_bytes() } else { 0 };
                }
                let of_process = self.claimants.values().filter(|it| it.process == process);
                let pending: usize = of_process.map(|it| it.pending_bytes).sum();
                if pending > self.plan.max_pending_bytes {
                    let most = self.plan.max_pending_bytes;
                    let what = format!("{pending} bytes wait to be stored, at most {most} may");
                    self.violate("I11", what);
                }
            }
            Operation::SaveProgress(owner, offset, bytes) => {
                if let Some(claimant) = self.claimants.get_mut(owner.token.as_bytes()) {
                    claimant.saves.entry(offset + bytes.len()).or_insert(now);
                }
            }
            _ => {}
        }
        if let Some((request, _)) = request {
            let calls = self.calls_of.entry(request).or_default();
            *calls += 1;
            if *calls > MOST_CALLS {
                let what = format!("request {request} has made {calls} calls");
                self.violate("I11", what);
            }
        }
        let is_counted = matches!(
            operation,
            Operation::Claim(_)
                | Operation::Release(_)
                | Operation::Abandon(_)
                | Operation::GiveGrace(..)
                | Operation::Get(_)
        );
        self.calls += u64::from(is_counted);
    }

    /// A call has got an error or no reply in time, or the claim was lost.
    pub fn call_failed(&mut self, operation: &Operation, is_lost: bool) {
        let owner = match operation {
            Operation::Claim(claim) => &claim.owner,
            Operation::Complete(owner, ..) => owner,
            Operation::Renew(renewals) => {
                for renewal in renewals {
                    let token = renewal.owner.token.as_bytes();
                    if let Some(claimant) = self.claimants.get_mut(token) {
                        claimant.has_failed_to_renew = true;
                    }
                }
                return;
            }
            _ => return,
        };
        if let Some(claimant) = self.claimants.get_mut(owner.token.as_bytes()) {
            claimant.has_failed = true;
            claimant.has_failed_to_complete |=
                matches!(operation, Operation::Complete(..)) && !is_lost;
        }
    }

    /// A response is stored, or will never be: what finds another answer in its record does not wait any more, unless it is
    /// offered once more.
    pub fn call_succeeded(&mut self, operation: &Operation, reply: &Reply) {
        let owner = match (operation, reply) {
            (Operation::Complete(owner, ..), _) => owner,
            (Operation::Claim(claim), Reply::Claim(Ok(Claim::Completed(_)))) => &claim.owner,
            _ => return,
        };
        if let Some(claimant) = self.claimants.get_mut(owner.token.as_bytes()) {
            claimant.pending_bytes = 0;
        }
    }

    /// The store has what a claim has saved of its progress.
    pub fn saved(&mut self, operation: &Operation) {
        if let Operation::SaveProgress(owner, offset, bytes) = operation
            && let Some(claimant) = self.claimants.get_mut(owner.token.as_bytes())
        {
            let sent_at = claimant.saves.get(&(offset + bytes.len())).copied();
            claimant.saved_until = claimant.saved_until.max(sent_at);
        }
    }

    /// How much of the lease before that time a process could not be expected to keep a record.
    pub(super) fn excused(
        &self,
        process: usize,
        key: &RecordKey,
        lease: Millis,
        now: Millis,
    ) -> Millis {
        let begin = now.saturating_sub(lease);
        let mut times: Vec<_> = self
            .blocked
            .iter()
            .filter(|it| it.process.is_none_or(|it| it == process))
            .filter(|it| it.key.is_none_or(|it| it == *key))
            .map(|it| (it.from.max(begin), it.to.min(now)))
            .filter(|(from, to)| from < to)
            .collect();
        times.sort_unstable();
        let (mut covered, mut reached) = (0, begin);
        for (from, to) in times {
            covered += to.saturating_sub(from.max(reached));
            reached = reached.max(to);
        }
        let steps = self.clock_steps.iter().filter(|(at, _)| *at >= begin);
        let steps: Millis = steps.map(|(_, by)| by.unsigned_abs()).sum();
        covered + steps
    }

    /// A run of this claimant that its process is still responsible for.
    pub(super) fn living_run(&self, claimant: &Claimant) -> Option<usize> {
        if self.ended.contains_key(&claimant.process) {
            return None;
        }
        let is_living = |run: &Run| {
            run.request == claimant.request
                && run.begun_at >= claimant.sent_at
                && matches!(run.ended, None | Some(End::Answered))
        };
        let runs = self.ledger.lock().runs.clone();
        let number = runs.iter().rposition(is_living)?;
        let lives = self.lives_of(&runs[number]);
        let is_stored = lives.iter().any(|(life, _)| life.completed.is_some());
        (!is_stored).then_some(number)
    }

    pub fn happened(&mut self, event: StoreEvent, now: Millis) {
        match event {
            StoreEvent::Created {
                key,
                life,
                token,
                after,
            } => {
                if let Some(expired) = after
                    && let Some(before) = self.lives.get_mut(&expired.life)
                {
                    before.end = Some(LifeEnd::Expired);
                    let of_request = |(token, _): &(Token, Millis)| {
                        let claimant = self.claimants.get(token.as_bytes());
                        claimant.is_some_and(|it| it.request.is_some())
                    };
                    // The engine's own records have a retention of their own.
                    let is_request = before.attempts.first().is_some_and(of_request);
                    let is_early = is_request
                        && expired
                            .abandoned_for
                            .is_some_and(|it| it < self.plan.retention);
                    if is_early && !before.is_tainted {
                        let what = format!("abandoned record {key} was free before its retention");
                        self.violate("I1", what);
                    }
                }
                // What was asked before an operator has removed a record can arrive behind that.
                let is_older = |at: &Millis| {
                    let claimant = self.claimants.get(token.as_bytes());
                    claimant.is_some_and(|it| it.sent_at <= *at)
                };
                let is_tainted = self.removed.get(&key).is_some_and(is_older);
                let life_of = Life {
                    key,
                    attempts: vec![(token, now)],
                    completed: None,
                    end: None,
                    is_tainted,
                    was_taken_over: false,
                    was_abandoned: false,
                };
                self.lives.insert(life, life_of);
            }
            StoreEvent::TakenOver {
                key,
                life,
                attempt,
                from,
                by,
            } => {
                if let Some(life) = self.lives.get_mut(&life) {
                    life.attempts.push((by, now));
                    life.was_taken_over = true;
                }
                if let Some(from) = from {
                    self.judge_take_over(&key, life, attempt, &from, &by, now);
                }
            }
            StoreEvent::Completed {
                life,
                token,
                response,
            } => {
                if let Some(claimant) = self.claimants.get_mut(token.as_bytes()) {
                    claimant.pending_bytes = 0;
                }
                if let Some(operator) = self.operator_of(&token) {
                    self.operator_changed(operator, false);
                }
                if let Some(life) = self.lives.get_mut(&life) {
                    life.completed = Some(Stored {
                        run: run_of(&response),
                        is_tombstone: response.body.is_none(),
                    });
                }
            }
            StoreEvent::Released { key, life: id } => {
                let Some(life) = self.lives.get_mut(&id) else {
                    return;
                };
                life.end = Some(LifeEnd::Released);
                let life = life.clone();
                let last = life.attempts.last().map(|(token, _)| *token);
                if let Some(operator) = last.and_then(|token| self.operator_of(&token)) {
                    self.operator_changed(operator, life.attempts.len() == 1);
                    return self.judge_freed(id, &key, operator);
                }
                if let Some(run) = self.effect_under(&life) {
                    let what = format!("record {key} was freed, and run {run} has had an effect");
                    self.violate("I1", what);
                }
            }
            StoreEvent::Abandoned { life } => {
                if let Some(life) = self.lives.get_mut(&life) {
                    life.was_abandoned = true;
                }
            }
        }
    }

    /// A run with an effect under one of the attempts of this life.
    pub(super) fn effect_under(&self, life: &Life) -> Option<usize> {
        if life.is_tainted {
            return None;
        }
        let ledger = self.ledger.lock();
        ledger
            .runs
            .iter()
            .position(|run| !run.effects.is_empty() && self.attempt_of(life, run).is_some())
    }

    /// Which attempt of this life a run is.
    pub(super) fn attempt_of(&self, life: &Life, run: &Run) -> Option<usize> {
        life.attempts.iter().rposition(|(token, at)| {
            let Some(claimant) = self.claimants.get(token.as_bytes()) else {
                return false;
            };
            claimant.request.is_some() && claimant.request == run.request && *at <= run.begun_at
        })
    }

    pub(super) fn judge_take_over(
        &mut self,
        key: &RecordKey,
        life: LifeId,
        attempt: u32,
        from: &Token,
        by: &Token,
        now: Millis,
    ) {
        if self.lives.get(&life).is_none_or(|life| life.is_tainted) {
            return;
        }
        let Some(claimant) = self.claimants.get(from.as_bytes()).cloned() else {
            return;
        };
        let Some(run) = self.living_run(&claimant) else {
            return;
        };
        // An attempt's own process takes it over when it completes after a later one was abandoned.
        let by = self.claimants.get(by.as_bytes());
        let lease = claimant.lease;
        let excused = self.excused(claimant.process.slot, key, lease, now);
        if excused * 2 < lease {
            let what = format!(
                "attempt {attempt} of record {key} was taken over while its run {run} was alive in process \
                 {:?} (lease {lease} ms, of which {excused} ms are excused; by {:?})",
                claimant.process,
                by.map(|by| by.process)
            );
            self.violate("I1", what);
        }
    }
}
