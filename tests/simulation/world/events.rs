//! What happens at its time.

use super::*;

impl World {
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive {
                call,
                operation,
                sabotage,
                reply_after,
            } => self.arrive(call, operation, sabotage, reply_after),
            Event::Reply { call, reply } => self.reply(call, reply),
            Event::Notify(changed) => drop(changed.send(())),
            Event::Try(client) => self.try_request(client),
            Event::HangUp(request) => {
                if let Some(request) = self.requests.remove(&request) {
                    trace!(self, "client {} hangs up", request.client);
                    request.task.abort();
                    self.try_later(request.client);
                }
            }
            Event::Answer { request, answer } => self.answer(request, &answer),
            Event::Trouble(trouble) => self.trouble(trouble),
            Event::OutageOver(number) => {
                trace!(self, "outage {number} is over");
            }
            Event::Start(slot) => {
                if self.processes[slot].is_none() {
                    self.start(slot);
                }
            }
            Event::Thaw(slot) => self.thaw(slot),
            Event::Kill(id) => {
                if self.processes[id.slot]
                    .as_ref()
                    .is_some_and(|it| it.id == id)
                {
                    self.kill(id.slot, 1_000);
                }
            }
            Event::Next(phase) => self.next_phase(phase),
            Event::Check => self.check(),
        }
    }

    pub(super) fn arrive(
        &mut self,
        call: u64,
        operation: Operation,
        sabotage: Option<Sabotage>,
        reply_after: Option<Millis>,
    ) {
        let is_given_up = self.calls.get(&call).is_some_and(|call| call.is_given_up);
        if is_given_up && reply_after.is_some() && self.plan.cancels {
            trace!(self, "     {call:x} is not executed");
            return;
        }
        if let Operation::Remove(key) = &operation {
            let life = self.server.model.life(key);
            self.judge.removed(*key, life, self.now);
        }
        let (executed, difference) = self.server.execute(&operation, sabotage, self.now);
        if let Some(difference) = difference {
            let what = format!("{}: {difference}", describe(&operation));
            self.judge.violate("I10", what);
        }
        let reply = match executed {
            Executed::Reply(reply) => reply,
            Executed::Blocked(until) => {
                trace!(self, "     {call:x} waits for a lock");
                let arrive = Event::Arrive {
                    call,
                    operation,
                    sabotage,
                    reply_after,
                };
                return self.schedule(until, arrive);
            }
        };
        trace!(self, "     {call:x} {}: {reply:?}", describe(&operation));
        // A copy of a question that was answered: no engine can know of it, nor where the answer is still on its way.
        let is_answered = |call: &Call| call.is_replied && !call.is_given_up;
        let is_ghost = self.calls.get(&call).is_none_or(is_answered);
        for event in self.server.take_events() {
            self.notify(&operation);
            let begun = match &event {
                StoreEvent::Created { life, .. } | StoreEvent::TakenOver { life, .. } => {
                    Some(*life)
                }
                _ => None,
            };
            self.judge.happened(event, self.now);
            if is_ghost {
                self.judge.forgotten(begun);
            }
        }
        if let Reply::SaveProgress(Ok(Progress::Saved)) = &reply {
            self.judge.saved(&operation);
        }
        if let (Operation::Claim(claim), Reply::Claim(Ok(Claim::Abandoned { .. }))) =
            (&operation, &reply)
            && let Some(life) = self.server.model.life(&claim.owner.key)
        {
            self.judge.judge_abandoned(&claim.owner.key, life, self.now);
        }
        if let Some(after) = reply_after {
            if let Some(call) = self.calls.get_mut(&call) {
                call.is_replied = true;
            }
            self.schedule(self.now + after, Event::Reply { call, reply });
        }
    }

    pub(super) fn notify(&mut self, operation: &Operation) {
        for key in operation.keys() {
            for changed in self.subscribers.remove(&key).unwrap_or_default() {
                let is_lost = self.plan.notifications == crate::plan::Notifications::Lossy
                    && self.network.percent(30);
                if !is_lost {
                    self.schedule(self.now + 1, Event::Notify(changed));
                }
            }
        }
    }

    pub(super) fn reply(&mut self, call: u64, reply: Reply) {
        let Some(call) = self.calls.remove(&call) else {
            return;
        };
        let has_failed = match &reply {
            Reply::Claim(reply) => reply.is_err(),
            Reply::Renew(replies) => replies.iter().any(Result::is_err),
            Reply::Complete(reply) => {
                !matches!(reply, Ok(Completion::Stored | Completion::AlreadyCompleted))
            }
            _ => false,
        };
        if has_failed {
            let is_lost = matches!(reply, Reply::Complete(Ok(Completion::Lost)));
            self.judge.call_failed(&call.operation, is_lost);
        } else {
            self.judge.call_succeeded(&call.operation, &reply);
        }
        if !call.is_given_up {
            // A process that is gone does not mind.
            drop(call.reply.send(reply));
        }
    }
}
