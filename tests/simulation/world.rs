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
use crate::operator::{Did, FIRST_OPERATOR, Operator};
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
    next_operator: u64,
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
    /// The reply is made, and may be on its way.
    is_replied: bool,
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

mod clients;
mod end;
mod events;
mod network;
mod troubles;

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
            next_operator: FIRST_OPERATOR,
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
                if let Some(operator) = request.filter(|it| *it >= FIRST_OPERATOR) {
                    self.judge.operator_called(operator, &operation);
                }
                self.send(id, call, &operation, at);
                self.calls.insert(
                    call,
                    Call {
                        process: id,
                        operation,
                        reply,
                        is_given_up: false,
                        is_replied: false,
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
            Emission::Operator(number, did) => self.operator_did(number, did),
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
