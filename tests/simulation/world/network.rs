//! What becomes of a call on its way.

use super::*;

impl World {
    /// Decides what becomes of a call.
    pub(super) fn send(&mut self, id: ProcessId, call: u64, operation: &Operation, at: Millis) {
        let (least, most) = if self.is_calm() {
            (1, 2)
        } else {
            self.plan.calls.latency
        };
        let (there, back) = (
            self.network.between(least, most),
            self.network.between(least, most),
        );
        let mode = self.mode(id, operation);
        let late = |rng: &mut Rng| match rng.below(4) {
            0 => rng.between(500, 3_000),
            1 | 2 => rng.between(2_000, 20_000),
            _ => rng.between(5_000, LATEST_ARRIVAL),
        };
        let mut arrivals: Vec<(Millis, Option<Millis>)> = Vec::new();
        let mut sabotage = None;
        let mut refusal = None;
        match mode {
            None => arrivals.push((there, Some(back))),
            Some(Mode::NoConnection) => {
                let kind = self.network.pick(&[
                    StoreErrorKind::Unavailable,
                    StoreErrorKind::Unavailable,
                    StoreErrorKind::TimedOut,
                ]);
                refusal = Some((there, error(kind).not_executed()));
            }
            Some(Mode::RequestLost) => {}
            Some(Mode::ReplyLost) => arrivals.push((there, None)),
            Some(Mode::Late) => arrivals.push((late(&mut self.network), None)),
            Some(Mode::LateReply) => {
                arrivals.push((there, Some(self.network.between(200, 6_000))));
            }
            Some(Mode::Duplicated) => {
                arrivals.push((there, Some(back)));
                arrivals.push((there + late(&mut self.network), None));
            }
            Some(Mode::Error(kind)) => refusal = Some((there + back, error(kind))),
            Some(Mode::Broken) => {
                refusal = Some((there, error(StoreErrorKind::Unavailable)));
                match self.network.below(3) {
                    0 => {}
                    1 => arrivals.push((there, None)),
                    _ => arrivals.push((late(&mut self.network), None)),
                }
            }
            Some(Mode::Partial) => {
                arrivals.push((there, Some(back)));
                sabotage = Some(Sabotage {
                    items: self.network.next(),
                    kind: self
                        .network
                        .pick(&[StoreErrorKind::Busy, StoreErrorKind::Unavailable]),
                });
            }
        }
        if let Some(mode) = mode {
            trace!(
                self,
                "     {call:x} goes wrong: {mode:?}, arrives after {arrivals:?}"
            );
        }
        self.excuse(id, operation, at, mode, &arrivals);
        for (after, reply_after) in arrivals {
            if !self.is_calm() {
                self.last_arrival = self.last_arrival.max(at + after);
            }
            let arrive = Event::Arrive {
                call,
                operation: operation.clone(),
                sabotage,
                reply_after,
            };
            self.schedule(at + after, arrive);
        }
        if let Some((after, error)) = refusal {
            let reply = operation.failed(&error);
            self.schedule(at + after, Event::Reply { call, reply });
        }
    }

    pub(super) fn mode(&mut self, id: ProcessId, operation: &Operation) -> Option<Mode> {
        if self.is_calm() {
            return None;
        }
        let outages = self.outages.iter().rev();
        let mut outages = outages.filter(|(until, process, _)| {
            *until > self.now && process.is_none_or(|process| process == id.slot)
        });
        let mode = match outages.next() {
            Some((.., mode)) => Some(*mode),
            None => Mode::of_call(&mut self.network, &self.plan.calls),
        };
        mode.filter(|mode| *mode != Mode::Partial || operation.is_batch())
    }

    /// Notes until when a process cannot be expected to have renewed what this call would have.
    pub(super) fn excuse(
        &mut self,
        id: ProcessId,
        operation: &Operation,
        at: Millis,
        mode: Option<Mode>,
        arrivals: &[(Millis, Option<Millis>)],
    ) {
        let renewed: Vec<(RecordKey, Millis)> = match operation {
            Operation::Renew(renewals) => {
                let renewed = renewals.iter();
                renewed
                    .map(|it| (it.owner.key, it.lease.as_millis() as Millis))
                    .collect()
            }
            Operation::Claim(claim) => {
                vec![(claim.owner.key, claim.lease.as_millis() as Millis)]
            }
            _ => return,
        };
        let is_claim = matches!(operation, Operation::Claim(_));
        let (_, most) = self.plan.calls.latency;
        let replied = arrivals
            .iter()
            .filter_map(|(after, reply)| Some((*after, (*reply)?)));
        let replied = replied.min();
        let is_cancelled = |there: Millis| self.plan.cancels && there >= self.plan.store_timeout;
        let replied = replied.filter(|(there, _)| !is_cancelled(*there));
        for (key, lease) in renewed {
            let again = (lease / 12).clamp(1, 1_000) + 2 * most;
            let until = match (mode, replied) {
                (None | Some(Mode::Duplicated), Some((there, back))) => {
                    there + if is_claim { back } else { 0 }
                }
                (Some(Mode::LateReply), Some((there, back))) => {
                    there + if is_claim { back } else { 0 }
                }
                (Some(Mode::ReplyLost), _) if !is_claim => most,
                (Some(Mode::Error(_) | Mode::NoConnection | Mode::Broken | Mode::Partial), _) => {
                    2 * most + again
                }
                // It is waited for.
                _ if is_claim => self.plan.store_timeout + most,
                _ => (lease / 3).min(self.plan.store_timeout + again) + most,
            };
            self.judge.block(Some(id.slot), Some(key), at, at + until);
        }
    }
}
