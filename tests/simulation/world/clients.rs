//! Clients, and what they are told.

use super::*;

impl World {
    pub(super) fn try_request(&mut self, client: usize) {
        if self.clients[client].is_done || self.clients[client].waits_for.is_some() {
            return;
        }
        let alive: Vec<usize> = (0..self.processes.len())
            .filter(|slot| self.processes[*slot].is_some())
            .collect();
        if alive.is_empty() {
            // No process listens.
            return self.try_later(client);
        }
        let slot = self.chance.pick(&alive);
        let (intent, variant) = (self.clients[client].intent, self.clients[client].variant);
        let plan = self.ledger.intent(intent);
        let number = self.next_request;
        self.next_request += 1;
        let process = self.processes[slot].as_ref().expect("a process");
        let link = process.link().clone();
        let answered: std::pin::Pin<Box<dyn Future<Output = Answer> + Send>> = match plan.surface {
            Surface::Http(route) => Box::pin(request(
                process.router.clone(),
                route,
                plan,
                intent,
                variant,
            )),
            Surface::Function => {
                let app = process.app(&self.ledger);
                let idempotency = process.idempotency.clone();
                Box::pin(app::execute(idempotency, app, plan, intent, variant))
            }
        };
        let mut answered = answered;
        let answered =
            std::future::poll_fn(move |cx| on_behalf_of(number, || answered.as_mut().poll(cx)));
        let task = process.spawn(async move {
            let answered = AssertUnwindSafe(answered).catch_unwind();
            let answer = answered.await.unwrap_or(Answer::of(Said::Panicked));
            link.emit(Emission::Answered {
                request: number,
                answer,
            });
        });
        let process = process.id;
        trace!(
            self,
            "client {client} asks p{slot} for intent {intent}.{variant}: request {number}"
        );
        self.clients[client].waits_for = Some(number);
        self.requests.insert(
            number,
            Request {
                client,
                process,
                task,
            },
        );
        let patience = if !self.is_calm() && self.chance.percent(self.plan.clients.hang_ups) {
            self.chance.pick(&[0, 1, 3, 10, 60, 400, 2_500])
        } else if self.clients[client].is_probe {
            30_000 + 3 * (3 * plan.before + plan.after + self.plan.recovery_takes)
        } else {
            self.chance.between(5_000, 30_000)
        };
        self.schedule(self.now + patience, Event::HangUp(number));
    }

    /// No answer: the same key again, if there are tries left.
    pub(super) fn try_later(&mut self, client: usize) {
        let pause = self.chance.pick(&[5, 100, 800, 3_000]);
        let is_calm = self.is_calm();
        let now = self.now;
        let state = &mut self.clients[client];
        state.waits_for = None;
        if state.is_probe {
            let plan = self.ledger.intent(state.intent);
            let handler = 6 * (3 * plan.before + plan.after + self.plan.recovery_takes);
            if now > state.began_at + PROBE + handler {
                state.is_done = true;
                let what = format!(
                    "intent {} gets no final answer, long after all is well",
                    state.intent
                );
                return self.judge.violate("I8", what);
            }
        } else if state.tries_left == 0 || (is_calm && state.tries_left < 2) {
            state.is_done = true;
            return;
        } else {
            state.tries_left -= 1;
        }
        self.schedule(now + pause, Event::Try(client));
    }

    pub(super) fn answer(&mut self, request: u64, answer: &Answer) {
        let Some(request) = self.requests.remove(&request) else {
            return;
        };
        let client = request.client;
        self.clients[client].waits_for = None;
        let is_idle = answer.said == Said::Nothing && self.clients[client].is_probe;
        if answer.is_worth_a_retry() && !is_idle {
            if self.clients[client].is_probe && answer.said == Said::Unavailable {
                let what = "the service refuses requests long after all is well".to_owned();
                self.judge.violate("I8", what);
            }
            return self.try_later(client);
        }
        if self.clients[client].is_probe {
            self.judge_probe(client, answer);
        } else if self.chance.percent(25) {
            // It asks once more, for a replay.
            let pause = self.chance.pick(&[1, 50, 2_000]);
            self.clients[client].tries_left = 1;
            return self.schedule(self.now + pause, Event::Try(client));
        }
        self.clients[client].is_done = true;
    }
}
