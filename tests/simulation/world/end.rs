//! From the last trouble to the last judgement.

use super::*;

impl World {
    pub(super) fn next_phase(&mut self, phase: Phase) {
        trace!(self, "== {phase:?}");
        self.phase = phase;
        match phase {
            Phase::Chaos => {}
            Phase::Settling => {
                for slot in 0..self.processes.len() {
                    if let Some(process) = &self.processes[slot]
                        && process.frozen_until.is_some()
                    {
                        self.thaw(slot);
                    }
                }
                self.schedule(self.now + 1_000, Event::Check);
            }
            Phase::Probing => {
                self.note_the_end();
                let intents = self.ledger.lock().intents.len();
                for intent in 0..intents.min(self.plan.intents.len() + 5) {
                    self.add_client(intent, 0, 0, true, self.now);
                }
                self.schedule(self.now + 100, Event::Check);
            }
            Phase::ShuttingDown => {
                self.judge_records();
                for slot in 0..self.processes.len() {
                    self.shut_down(slot, 60_000, 0);
                }
                // Longer than until the sweeper looks up.
                self.schedule(self.now + 70_000, Event::Next(Phase::Over));
            }
            Phase::Over => self.judge_processes(),
        }
    }

    /// Whether it is time for the next phase.
    pub(super) fn check(&mut self) {
        let is_idle = self.requests.is_empty() && self.clients.iter().all(|it| it.is_done);
        let next = match self.phase {
            Phase::Settling => {
                let runs = self.ledger.lock().runs.clone();
                let mut runs = runs.iter();
                let runs = runs.any(|run| {
                    let lives = self.processes[run.process.slot].as_ref();
                    run.ended.is_none() && lives.is_some_and(|it| it.id == run.process)
                });
                let ids = self
                    .processes
                    .iter()
                    .flatten()
                    .map(|process| process.id.slot);
                let all_up = ids.count() == self.processes.len();
                trace!(
                    self,
                    "settling: idle {is_idle}, all up {all_up}, runs {runs}"
                );
                // The lease of what arrived last, and the longest pause between two looks at it.
                let settled = self.last_arrival.max(self.plan.chaos) + 30_000 + 35_000;
                (is_idle && all_up && !runs && self.now >= settled).then_some(Phase::Probing)
            }
            Phase::Probing if is_idle => {
                // The longest pause between two tries to store a response.
                return self.schedule(self.now + 10_000, Event::Next(Phase::ShuttingDown));
            }
            Phase::Probing => None,
            _ => return,
        };
        match next {
            Some(phase) => self.next_phase(phase),
            None => {
                let pause = if is_idle { 5_000 } else { 500 };
                self.schedule(self.now + pause, Event::Check);
            }
        }
    }

    /// A probe was told something final.
    pub(super) fn judge_probe(&mut self, client: usize, answer: &Answer) {
        if answer.said != Said::Unknown {
            return;
        }
        let intent = self.clients[client].intent;
        let time = self.server.time(self.now);
        let model = &self.server.model;
        let unexplained = model.keys().into_iter().find(|key| {
            let record = model.get(key, time);
            let is_abandoned = record.is_some_and(|it| matches!(it.state, RecordState::Abandoned));
            let life = model.life(key);
            is_abandoned && life.is_some_and(|life| !self.judge.is_abandonment_explained(life))
        });
        if let Some(key) = unexplained {
            let what = format!(
                "intent {intent} is called unknown: record {key} is abandoned, and nothing explains that"
            );
            self.judge.violate("I8", what);
        }
    }

    pub(super) fn judge_records(&mut self) {
        self.judge.judge_effects();
        self.judge.judge_recoveries();
        let time = self.server.time(self.now);
        let model = &self.server.model;
        let keys = model.keys().into_iter();
        let present = keys.filter(|key| model.get(key, time).is_some());
        let present = present.filter_map(|key| model.life(&key)).collect();
        self.judge.judge_stored(&present);
        for key in self.server.model.keys() {
            let Some(record) = self.server.model.get(&key, time) else {
                continue;
            };
            let life = self.server.model.life(&key).expect("a life");
            match record.state {
                RecordState::Completed(_) => {}
                // No client waits for what the engine records of itself, and it expires within a minute.
                RecordState::Running { .. } if record.operation.starts_with("idempotent: ") => {}
                RecordState::Running { lease_left } => {
                    let what = format!("record {key} is in flight, for another {lease_left:?}");
                    self.judge.violate("I9", what);
                }
                RecordState::Abandoned => {
                    if !self.judge.is_abandonment_explained(life) {
                        let what = format!("record {key} is abandoned, and nothing explains that");
                        self.judge.violate("I8", what);
                    }
                }
                state => {
                    let what = format!("record {key} is {state:?}");
                    self.judge.violate("I9", what);
                }
            }
        }
    }

    pub(super) fn judge_processes(&mut self) {
        for process in self.processes.iter().flatten() {
            let pending = process.idempotency.pending();
            if pending > 0 {
                let what = format!("process {:?} still has {pending} things to do", process.id);
                self.judge.violate("I9", what);
            }
        }
    }

    /// Of each record of an intent whose handler has begun before the probes, what has become of it.
    pub(super) fn note_the_end(&mut self) {
        let time = self.server.time(self.now);
        let runs = self.ledger.lock().runs.clone();
        for run in &runs {
            let plan = self.ledger.intent(run.intent);
            let Some(key) = run.record.filter(|_| plan.ttl > HOUR) else {
                continue;
            };
            let record = self.server.model.get(&key, time);
            let state = record.map(|record| match record.state {
                RecordState::Running { .. } => "running",
                RecordState::Abandoned => "abandoned",
                RecordState::Completed(_) => "completed",
                _ => "something else",
            });
            self.end_states.insert(run.intent, state);
        }
    }

    pub(super) fn end(&mut self) {
        if self.trace.is_some() {
            for (number, run) in self.ledger.lock().runs.clone().iter().enumerate() {
                trace!(self, "run {number}: {run:?}");
            }
            for line in self.judge.describe_lives() {
                trace!(self, "{line}");
            }
        }
        for process in std::mem::take(&mut self.processes).into_iter().flatten() {
            process.kill();
        }
        idempotent_runtime::simulation::seed(None);
    }
}
