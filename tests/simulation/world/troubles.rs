//! Processes that start, stop and stand still, and the rest of what goes wrong.

use super::*;

impl World {
    pub(super) fn start(&mut self, slot: usize) {
        let id = ProcessId {
            slot,
            generation: self.generations[slot],
        };
        self.generations[slot] += 1;
        self.processes[slot] = Some(Process::start(id, &self.plan, &self.ledger, self.now));
        trace!(self, "p{slot} starts, generation {}", id.generation);
    }

    pub(super) fn kill(&mut self, slot: usize, down: Millis) {
        let Some(process) = self.processes[slot].take() else {
            return;
        };
        trace!(self, "p{slot} is killed");
        self.judge.process_ended(process.id, self.now);
        let id = process.id;
        process.kill();
        let lost: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, request)| request.process == id)
            .map(|(number, _)| *number)
            .collect();
        for number in lost {
            if let Some(request) = self.requests.remove(&number) {
                self.try_later(request.client);
            }
        }
        // What was sent is on its way; no caller waits for a reply.
        for call in self.calls.values_mut().filter(|call| call.process == id) {
            call.is_given_up = true;
        }
        self.schedule(self.now + down, Event::Start(slot));
    }

    pub(super) fn thaw(&mut self, slot: usize) {
        let now = self.now;
        if let Some(process) = self.processes[slot].as_mut()
            && process.frozen_until.is_some_and(|until| until <= now)
        {
            process.thaw(now);
            let (id, at) = (process.id, process.local);
            let emissions = process.link().take();
            trace!(self, "p{slot} wakes up");
            for emission in emissions {
                self.emitted(id, at, emission);
            }
        }
    }

    pub(super) fn trouble(&mut self, trouble: Trouble) {
        trace!(self, "{trouble:?}");
        let now = self.now;
        let within = |length: Millis, chaos: Millis| length.min(chaos.saturating_sub(now));
        match trouble {
            Trouble::Outage {
                process,
                mode,
                length,
            } => {
                let until = now + within(length, self.plan.chaos);
                self.outages.push((until, process, mode));
                self.judge.block(process, None, now, until + 3_000);
                self.schedule(until, Event::OutageOver(self.outages.len() - 1));
            }
            Trouble::Lock {
                intent,
                length,
                kind,
            } => {
                let until = now + within(length, self.plan.chaos);
                let keys = self.server.model.keys();
                let runs = self.ledger.lock().runs.clone();
                let of_intent = runs.iter().rev().find(|run| run.intent == intent);
                let key = of_intent
                    .and_then(|run| run.record)
                    .or(keys.first().copied());
                let Some(key) = key else { return };
                self.server.locks.insert(key, Lock { until, kind });
                self.judge.block(None, Some(key), now, until + 1_500);
                if kind == LockKind::HangsBatches {
                    let hang = until.min(now + 3 * self.plan.store_timeout + 1_000);
                    self.judge.block(None, None, now, hang + 1_000);
                }
            }
            Trouble::FailOver { forgets } => {
                let since = now.saturating_sub(forgets);
                for (key, lives) in self.server.fail_over(since) {
                    trace!(self, "     forgets {key}");
                    for life in lives {
                        self.judge.forgotten(life);
                    }
                }
            }
            Trouble::ClockStep { by } => {
                self.server.step_clock(by);
                self.judge.clock_stepped(now, by);
            }
            Trouble::Kill { process, down } => self.kill(process, down),
            Trouble::Freeze { process, length } => {
                let until = now + within(length, self.plan.chaos);
                if let Some(running) = self.running(process) {
                    running.frozen_until = Some(until);
                    self.judge.block(Some(process), None, now, until + 100);
                    self.schedule(until, Event::Thaw(process));
                }
            }
            Trouble::Operator {
                process,
                intent,
                deed,
                thinks,
            } => {
                let plan = self.ledger.intent(intent);
                let number = self.next_operator;
                self.next_operator += 1;
                let Some(process) = self.processes[process].as_ref() else {
                    return;
                };
                let operator = Operator {
                    number,
                    idempotency: process.idempotency.clone(),
                    app: process.app(&self.ledger),
                    link: process.link().clone(),
                    intent,
                    plan,
                };
                let mut acting = Box::pin(operator.act(deed, thinks));
                let acting = std::future::poll_fn(move |cx| {
                    on_behalf_of(number, || acting.as_mut().poll(cx))
                });
                drop(process.spawn(acting));
            }
            Trouble::Shutdown {
                process,
                deadline,
                down,
            } => self.shut_down(process, deadline, down),
        }
    }

    pub(super) fn operator_did(&mut self, number: u64, did: Did) {
        trace!(self, "operator {number}: {did:?}");
        match did {
            Did::Decides(at, decision) => self.judge.operator_decides(number, at, decision),
            Did::IsTold(told) => self.judge.operator_told(number, told),
        }
    }

    pub(super) fn shut_down(&mut self, slot: usize, deadline: Millis, _down: Millis) {
        let Some(process) = self.running(slot) else {
            return;
        };
        if std::mem::replace(&mut process.is_shutting_down, true) {
            return;
        }
        let (idempotency, link) = (process.idempotency.clone(), process.link().clone());
        let deadline = std::time::Duration::from_millis(deadline);
        process.spawn(async move {
            let unfinished = idempotency.shutdown(deadline).await;
            link.emit(Emission::ShutDown { unfinished });
        });
    }
}
