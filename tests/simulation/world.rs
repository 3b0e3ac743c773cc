//! The history: one queue of events, the processes, the store's server, the network between them, and
//! clients.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use idempotent_runtime::store::{Claim, Completion, Progress, StoreErrorKind};
use idempotent_runtime::{RecordKey, RecordState};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::app;
use crate::client::{Answer, Client, Said, request};
use crate::judge::{Judge, Violation};
use crate::ledger::Ledger;
use crate::link::{Emission, Operation, Reply, error, on_behalf_of};
use crate::model::StoreEvent;
use crate::plan::{LockKind, Millis, Mode, Plan, Surface, Trouble};
use crate::process::{Process, ProcessId};
use crate::rng::Rng;
use crate::server::{Executed, Lock, Sabotage, Server};

/// How far processes may run ahead of each other while a client waits.
const QUANTUM: Millis = 100;

/// After this a question cannot arrive any more.
const LATEST_ARRIVAL: Millis = 8 * 60_000;

/// The longest that a probe may have to try until it is told something final.
const PROBE: Millis = 60_000;

const HOUR: Millis = 3_600_000;

pub struct World {
    plan: Plan,
    network: Rng,
    chance: Rng,
    pub ledger: Ledger,
    server: Server,
    processes: Vec<Option<Process>>,
    generations: Vec<u32>,
    events: BinaryHeap<Reverse<Scheduled>>,
    next_event: u64,
    now: Millis,
    calls: BTreeMap<u64, Call>,
    requests: BTreeMap<u64, Request>,
    next_request: u64,
    clients: Vec<Client>,
    outages: Vec<(Millis, Option<usize>, Mode)>,
    subscribers: BTreeMap<RecordKey, Vec<oneshot::Sender<()>>>,
    pub judge: Judge,
    last_arrival: Millis,
    phase: Phase,
    /// What had become of each intent whose handler has begun, before the probes.
    pub end_states: BTreeMap<usize, Option<&'static str>>,
    /// Prints each line of the trace at once, for a history that does not end.
    is_live: bool,
    /// One line for each thing that happens, if they are wanted.
    pub trace: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Chaos,
    /// All is well again, and what was late may still arrive.
    Settling,
    Probing,
    ShuttingDown,
    Over,
}

struct Scheduled {
    at: Millis,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

enum Event {
    /// A copy of a call's question comes to the store.
    Arrive {
        call: u64,
        operation: Operation,
        sabotage: Option<Sabotage>,
        /// How long the reply takes, if there is one.
        reply_after: Option<Millis>,
    },
    Reply {
        call: u64,
        reply: Reply,
    },
    Notify(oneshot::Sender<()>),
    /// A client tries, for the first time or again.
    Try(usize),
    /// A client hangs up.
    HangUp(u64),
    Answer {
        request: u64,
        answer: Answer,
    },
    Trouble(Trouble),
    /// An outage's number.
    OutageOver(usize),
    Start(usize),
    Thaw(usize),
    Kill(ProcessId),
    Next(Phase),
    Check,
}

struct Call {
    process: ProcessId,
    operation: Operation,
    reply: oneshot::Sender<Reply>,
    is_given_up: bool,
}

struct Request {
    client: usize,
    process: ProcessId,
    task: JoinHandle<()>,
}

macro_rules! trace {
    ($world:expr, $($text:tt)*) => {
        if let Some(lines) = &mut $world.trace {
            let line = format!($($text)*);
            if $world.is_live {
                println!("{:>8}  {line}", $world.now);
            }
            lines.push(format!("{:>8}  {line}", $world.now));
        }
    };
}

impl World {
    pub fn new(plan: Plan, with_trace: bool) -> Self {
        let mut rng = Rng::new(plan.seed ^ 0xabcd_ef01);
        let ledger = Ledger::new(&plan, rng.fork());
        idempotent_runtime::simulation::seed(Some(rng.next()));
        let mut world = Self {
            network: rng.fork(),
            chance: rng.fork(),
            server: Server::new(plan.largest_response),
            processes: Vec::new(),
            generations: vec![0; plan.processes],
            events: BinaryHeap::new(),
            next_event: 0,
            now: 0,
            calls: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            clients: Vec::new(),
            outages: Vec::new(),
            subscribers: BTreeMap::new(),
            judge: Judge::new(&plan, &ledger),
            last_arrival: 0,
            phase: Phase::Chaos,
            end_states: BTreeMap::new(),
            is_live: with_trace && std::env::var_os("SIMULATION_LIVE").is_some(),
            trace: with_trace.then(Vec::new),
            ledger,
            plan,
        };
        world.set_the_scene();
        world
    }

    fn set_the_scene(&mut self) {
        trace!(self, "{:#?}", self.plan);
        for slot in 0..self.plan.processes {
            self.processes.push(None);
            self.start(slot);
        }
        for (at, trouble) in self.plan.troubles.clone() {
            self.schedule(at, Event::Trouble(trouble));
        }
        let intents = self.ledger.lock().intents.clone();
        let most = self.plan.chaos / 2;
        for (intent, plan) in intents.iter().enumerate() {
            let is_burst = intent >= self.plan.intents.len();
            let first = if is_burst {
                most
            } else {
                self.chance.between(0, most)
            };
            for number in 0..plan.clients {
                let at = match number {
                    0 => first,
                    _ if self.chance.percent(60) => first + self.chance.between(0, 30),
                    _ => self.chance.between(first, self.plan.chaos),
                };
                let is_reused = plan.is_reused && number > 0;
                let tries = if is_burst { 1 } else { self.plan.clients.tries };
                self.add_client(intent, u8::from(is_reused), tries, false, at);
            }
        }
        self.schedule(self.plan.chaos, Event::Next(Phase::Settling));
    }

    fn add_client(&mut self, intent: usize, variant: u8, tries: u32, is_probe: bool, at: Millis) {
        self.clients.push(Client {
            intent,
            variant,
            tries_left: tries,
            waits_for: None,
            is_probe,
            began_at: at,
            is_done: false,
        });
        self.schedule(at, Event::Try(self.clients.len() - 1));
    }

    fn schedule(&mut self, at: Millis, event: Event) {
        let number = self.next_event;
        self.next_event += 1;
        self.events.push(Reverse(Scheduled { at, number, event }));
    }

    /// Runs to the end, or to the first broken invariant.
    pub fn run(&mut self) -> Option<Violation> {
        while self.phase != Phase::Over && self.judge.violation.is_none() {
            let Some(next) = self.next_at() else { break };
            let mut horizon = if self.is_busy() {
                next.min(self.now + QUANTUM)
            } else {
                next
            };
            for slot in 0..self.processes.len() {
                while let Some(process) = self.running(slot)
                    && process.local < horizon
                {
                    let emissions = process.run_until(horizon);
                    let (id, at) = (process.id, process.local);
                    let is_quiet = emissions.is_empty();
                    for emission in emissions {
                        self.emitted(id, at, emission);
                    }
                    if is_quiet {
                        break;
                    }
                    horizon = horizon.min(self.next_at().unwrap_or(horizon));
                }
            }
            self.now = horizon.max(self.now);
            while let Some(event) = self.next_event() {
                self.happen(event);
            }
        }
        self.end();
        self.judge.violation.clone()
    }

    fn is_busy(&self) -> bool {
        !self.requests.is_empty()
    }

    fn next_at(&self) -> Option<Millis> {
        self.events.peek().map(|Reverse(next)| next.at)
    }

    fn next_event(&mut self) -> Option<Event> {
        if self.next_at()? > self.now {
            return None;
        }
        self.events.pop().map(|Reverse(next)| next.event)
    }

    fn running(&mut self, slot: usize) -> Option<&mut Process> {
        let process = self.processes.get_mut(slot)?.as_mut();
        process.filter(|process| process.frozen_until.is_none())
    }

    fn is_calm(&self) -> bool {
        self.phase != Phase::Chaos
    }

    fn emitted(&mut self, id: ProcessId, at: Millis, emission: Emission) {
        match emission {
            Emission::Call {
                call,
                request,
                operation,
                reply,
            } => {
                let client = request
                    .and_then(|it| self.requests.get(&it))
                    .map(|it| it.client);
                let intent = client.map(|client| self.clients[client].intent);
                let of = request.zip(intent);
                trace!(
                    self,
                    "p{} {:x} asks {}",
                    id.slot,
                    call,
                    describe(&operation)
                );
                self.judge.called(id, of, &operation, at);
                self.send(id, call, &operation, at);
                self.calls.insert(
                    call,
                    Call {
                        process: id,
                        operation,
                        reply,
                        is_given_up: false,
                    },
                );
            }
            Emission::GivenUp(call) => {
                if let Some(call) = self.calls.get_mut(&call) {
                    call.is_given_up = true;
                    let operation = call.operation.clone();
                    self.judge.call_failed(&operation, false);
                }
                trace!(self, "p{} {call:x} is given up", id.slot);
            }
            Emission::Subscribe(key, changed) => {
                self.subscribers.entry(key).or_default().push(changed);
            }
            Emission::Answered { request, answer } => {
                let Some(client) = self.requests.get(&request).map(|it| it.client) else {
                    return;
                };
                trace!(
                    self,
                    "p{} answers request {request} of client {client}: {answer:?}", id.slot
                );
                let client = self.clients[client].clone();
                self.judge.answered(request, &client, &answer);
                let lost = self.plan.clients.lost_answers;
                if self.is_calm() || !self.chance.percent(lost) {
                    self.schedule(at + 1, Event::Answer { request, answer });
                } else {
                    self.schedule(at + 500, Event::HangUp(request));
                }
            }
            Emission::ShutDown { unfinished } => {
                trace!(self, "p{} has shut down, {unfinished} unfinished", id.slot);
                if self.phase == Phase::ShuttingDown {
                    if unfinished > 0 {
                        let what = format!("process {id:?} shuts down with {unfinished} claims");
                        self.judge.violate("I9", what);
                    }
                } else {
                    self.schedule(at, Event::Kill(id));
                }
            }
        }
    }

    // The network.

    /// Decides what becomes of a call.
    fn send(&mut self, id: ProcessId, call: u64, operation: &Operation, at: Millis) {
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

    fn mode(&mut self, id: ProcessId, operation: &Operation) -> Option<Mode> {
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
    fn excuse(
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

    // What happens.

    fn happen(&mut self, event: Event) {
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

    fn arrive(
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
        // A copy of a question that was answered: no engine can know of it.
        let is_ghost = !self.calls.contains_key(&call);
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
            self.schedule(self.now + after, Event::Reply { call, reply });
        }
    }

    fn notify(&mut self, operation: &Operation) {
        for key in operation.keys() {
            for changed in self.subscribers.remove(&key).unwrap_or_default() {
                let is_lost =
                    self.plan.hints == crate::plan::Hints::Lossy && self.network.percent(30);
                if !is_lost {
                    self.schedule(self.now + 1, Event::Notify(changed));
                }
            }
        }
    }

    fn reply(&mut self, call: u64, reply: Reply) {
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
            self.judge.call_succeeded(&call.operation);
        }
        if !call.is_given_up {
            // A process that is gone does not mind.
            drop(call.reply.send(reply));
        }
    }

    // Clients.

    fn try_request(&mut self, client: usize) {
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
            30_000 + 3 * (3 * plan.before + plan.after)
        } else {
            self.chance.between(5_000, 30_000)
        };
        self.schedule(self.now + patience, Event::HangUp(number));
    }

    /// No answer: the same key again, if there are tries left.
    fn try_later(&mut self, client: usize) {
        let pause = self.chance.pick(&[5, 100, 800, 3_000]);
        let is_calm = self.is_calm();
        let now = self.now;
        let state = &mut self.clients[client];
        state.waits_for = None;
        if state.is_probe {
            let plan = self.ledger.intent(state.intent);
            let handler = 6 * (3 * plan.before + plan.after);
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

    fn answer(&mut self, request: u64, answer: &Answer) {
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

    // Troubles.

    fn start(&mut self, slot: usize) {
        let id = ProcessId {
            slot,
            generation: self.generations[slot],
        };
        self.generations[slot] += 1;
        self.processes[slot] = Some(Process::start(id, &self.plan, &self.ledger, self.now));
        trace!(self, "p{slot} starts, generation {}", id.generation);
    }

    fn kill(&mut self, slot: usize, down: Millis) {
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

    fn thaw(&mut self, slot: usize) {
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

    fn trouble(&mut self, trouble: Trouble) {
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
            Trouble::Shutdown {
                process,
                deadline,
                down,
            } => self.shut_down(process, deadline, down),
        }
    }

    fn shut_down(&mut self, slot: usize, deadline: Millis, _down: Millis) {
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

    // The end.

    fn next_phase(&mut self, phase: Phase) {
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
    fn check(&mut self) {
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
    fn judge_probe(&mut self, client: usize, answer: &Answer) {
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

    fn judge_records(&mut self) {
        self.judge.judge_effects();
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

    fn judge_processes(&mut self) {
        for process in self.processes.iter().flatten() {
            let pending = process.idempotency.pending();
            if pending > 0 {
                let what = format!("process {:?} still has {pending} things to do", process.id);
                self.judge.violate("I9", what);
            }
        }
    }

    /// Of each record of an intent whose handler has begun before the probes, what has become of it.
    fn note_the_end(&mut self) {
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

    fn end(&mut self) {
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

fn describe(operation: &Operation) -> String {
    let keys: Vec<String> = operation.keys().iter().map(RecordKey::to_string).collect();
    let more = match operation {
        Operation::Claim(claim) => match claim.take_over {
            Some(attempt) => format!(" taking over {attempt}"),
            None => String::new(),
        },
        Operation::Complete(_, response, _) => format!(" {response:?}"),
        _ => String::new(),
    };
    format!("{} {}{more}", operation.name(), keys.join(" "))
}
