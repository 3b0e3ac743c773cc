//! What a seed decides before the history begins: who takes part, and what the adversary may do.
//!
//! Each seed draws a subset of the adversary's alphabet and rates for it (swarm testing): a history with
//! every fault at once explains everything and finds little.

use idempotent_runtime::store::StoreErrorKind;

pub use self::operators::Deed;
use crate::rng::Rng;

mod operators;
mod recoveries;

/// Simulated time, in milliseconds.
pub type Millis = u64;

/// One seed's history, as far as it is known beforehand.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub processes: usize,
    pub intents: Vec<IntentPlan>,
    /// How many requests of intents with keys of their own come at once, in the middle.
    pub burst: usize,
    /// The adversary is quiet from then on.
    pub chaos: Millis,
    pub calls: CallFaults,
    pub troubles: Vec<(Millis, Trouble)>,
    pub clients: ClientPlan,
    pub store_timeout: Millis,
    pub retention: Millis,
    pub max_pending_bytes: usize,
    pub replay_cache: bool,
    pub notifications: Notifications,
    pub secrets: Secrets,
    /// How long a recovery function takes, once it has looked what has happened.
    pub recovery_takes: Millis,
    /// What was given up before it came to the store is not executed.
    pub cancels: bool,
    /// The largest response that the store takes.
    pub largest_response: usize,
    /// Whether the logs are read for secrets: that takes time.
    pub reads_logs: bool,
}

/// One thing that clients want done, and how its handler goes about it.
#[derive(Clone, Copy, Debug)]
pub struct IntentPlan {
    pub surface: Surface,
    pub before: Millis,
    pub after: Millis,
    pub outcome: HandlerOutcome,
    pub body_bytes: usize,
    pub on_abandoned: Abandoned,
    pub waits: bool,
    pub lease: Millis,
    pub ttl: Millis,
    pub scope: u8,
    /// Which client key it has: intents of different scopes or operations share some.
    pub key: u8,
    pub clients: usize,
    /// One of its clients sends another body with the same key.
    pub is_reused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// A handler under `#[idempotent]`, by its place in the table of routes.
    Http(usize),
    /// `Idempotency::execute_attempt`.
    Function,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandlerOutcome {
    Done,
    /// The body is produced in pieces, with pauses.
    Stream {
        chunks: u64,
        pause: Millis,
    },
    /// Nothing happens, and that is said: `Release`, or the error of a function.
    NothingHappened,
    /// The effect, and then a panic.
    Panics,
    /// Two effects, each in a step.
    Steps,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned {
    Reject,
    Retry,
    Recover,
}

/// How often a call to the store goes wrong by itself, of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallFaults {
    pub latency: (Millis, Millis),
    pub no_connection: u32,
    pub request_lost: u32,
    pub reply_lost: u32,
    pub late: u32,
    pub late_reply: u32,
    pub duplicated: u32,
    pub error: u32,
    pub broken: u32,
    pub partial: u32,
}

/// A time of trouble, or an event.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    /// No call of this process (or of any) goes well.
    Outage {
        process: Option<usize>,
        mode: Mode,
        length: Millis,
    },
    /// An open transaction holds a record's row.
    Lock {
        intent: usize,
        length: Millis,
        kind: LockKind,
    },
    /// The replica that takes over lacks the last writes.
    FailOver {
        forgets: Millis,
    },
    ClockStep {
        by: i64,
    },
    Kill {
        process: usize,
        down: Millis,
    },
    Freeze {
        process: usize,
        length: Millis,
    },
    /// An operator does something about an intent's record, by way of this process.
    Operator {
        process: usize,
        intent: usize,
        deed: Deed,
        thinks: Millis,
    },
    /// `Idempotency::shutdown`, and then the runtime ends.
    Shutdown {
        process: usize,
        deadline: Millis,
        down: Millis,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Everything that needs the row is told that it is busy.
    Busy,
    /// Calls about this record alone wait for it; a batch is told.
    Waits,
    /// A store that does not keep the contract: a whole batch hangs with the row.
    HangsBatches,
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An error at once, and certainly nothing was done.
    NoConnection,
    RequestLost,
    ReplyLost,
    /// It arrives seconds or minutes later, and the caller gets no reply.
    Late,
    /// It is executed at once, and the reply takes seconds.
    LateReply,
    /// It is executed now and once more later.
    Duplicated,
    /// The store does not do it now.
    Error(StoreErrorKind),
    /// The connection breaks: an error at once; it was executed, or not, or will be.
    Broken,
    /// Some items of a batch fail.
    Partial,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notifications {
    None,
    Lossy,
    Reliable,
    /// They resolve at once, for no reason.
    Spurious,
}

/// Which secrets the instances have, while they are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    Same,
    /// The first process knows the old one only, the others both.
    OldAndBoth,
    /// The first process knows both, the others the new one only.
    BothAndNew,
    /// The first process has none, the others a secret for the first time.
    NoneAndBoth,
}

#[derive(Clone, Copy, Debug)]
pub struct ClientPlan {
    pub tries: u32,
    /// How many of a hundred tries hang up early.
    pub hang_ups: u32,
    /// How many of a hundred answers get lost.
    pub lost_answers: u32,
}

pub const LEASES: [Millis; 5] = [500, 2_000, 6_000, 12_000, 30_000];

/// The handle's TTL: shorter than the leases of the routes that have it.
pub const BRIEF_TTL: Millis = 1_500;

/// The static policies of the routes: lease, TTL, abandoned, waits.
pub const ROUTES: [(Millis, Millis, Abandoned, bool); 8] = [
    (30_000, 86_400_000, Abandoned::Reject, false),
    (500, 86_400_000, Abandoned::Reject, true),
    (4_000, 86_400_000, Abandoned::Retry, false),
    (500, 86_400_000, Abandoned::Retry, false),
    (2_000, BRIEF_TTL, Abandoned::Reject, false),
    (6_000, 86_400_000, Abandoned::Recover, false),
    (30_000, BRIEF_TTL, Abandoned::Retry, true),
    (12_000, 3_600_000, Abandoned::Retry, true),
];

const ERRORS: [StoreErrorKind; 4] = [
    StoreErrorKind::Refused,
    StoreErrorKind::Refused,
    StoreErrorKind::Busy,
    StoreErrorKind::Full,
];

impl Plan {
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let rng = &mut rng;
        let processes = 1 + rng.below(3);
        let chaos = rng.pick(&[4_000, 15_000, 15_000, 40_000, 90_000]);
        let mut intents: Vec<_> = {
            let count = rng.pick(&[1, 2, 2, 3, 3, 4, 6]);
            (0..count).map(|_| IntentPlan::draw(rng, chaos)).collect()
        };
        let calls = CallFaults::draw(rng);
        let mut troubles = troubles(rng, processes, intents.len(), chaos);
        let secrets = match rng.below(8) {
            0 if processes > 1 => Secrets::OldAndBoth,
            1 if processes > 1 => Secrets::BothAndNew,
            2 if processes > 1 => Secrets::NoneAndBoth,
            _ => Secrets::Same,
        };
        operators::add(
            &mut troubles,
            seed,
            processes,
            intents.len(),
            chaos,
            secrets,
        );
        let recovery_takes =
            recoveries::slow_down(&mut troubles, &mut intents, seed, processes, chaos);
        Self {
            seed,
            processes,
            burst: if rng.percent(4) {
                rng.pick(&[20, 60])
            } else {
                0
            },
            chaos,
            calls,
            troubles,
            clients: ClientPlan {
                tries: rng.pick(&[2, 4, 8, 20]),
                hang_ups: rng.pick(&[0, 0, 10, 40]),
                lost_answers: rng.pick(&[0, 0, 10, 30]),
            },
            store_timeout: rng.pick(&[2_000, 2_000, 2_000, 300, 50]),
            retention: rng.pick(&[30 * 86_400_000, 30 * 86_400_000, 60_000]),
            max_pending_bytes: rng.pick(&[64 << 20, 64 << 20, 3_000, 0]),
            replay_cache: rng.percent(50),
            notifications: rng.pick(&[
                Notifications::None,
                Notifications::Lossy,
                Notifications::Reliable,
                Notifications::Spurious,
            ]),
            secrets,
            recovery_takes,
            cancels: rng.percent(50),
            largest_response: rng.pick(&[usize::MAX, usize::MAX, usize::MAX, 600]),
            reads_logs: rng.percent(15),
            intents,
        }
    }
}

impl Plan {
    /// The same without an adversary, each intent by a key of its own and one client that tries once.
    /// Only whether clients stay is left.
    pub fn honest(seed: u64, hang_ups: u32) -> Self {
        let mut plan = Self::of_seed(seed);
        plan.calls = CallFaults {
            latency: plan.calls.latency,
            ..CallFaults::default()
        };
        plan.store_timeout = 2_000;
        plan.troubles.clear();
        plan.burst = 0;
        plan.clients = ClientPlan {
            tries: 1,
            hang_ups,
            lost_answers: 0,
        };
        for intent in &mut plan.intents {
            intent.key = 100;
            intent.clients = 1;
            intent.is_reused = false;
        }
        plan
    }
}

impl IntentPlan {
    fn draw(rng: &mut Rng, chaos: Millis) -> Self {
        let mut plan = Self {
            surface: Surface::Function,
            before: rng.pick(&[0, 1, 5, 50, 300, 1_500]),
            after: rng.pick(&[0, 1, 5, 50, 300, 2_000, 8_000, chaos / 2]),
            outcome: match rng.below(20) {
                0..=12 => HandlerOutcome::Done,
                13 | 14 => HandlerOutcome::Stream {
                    chunks: rng.between(1, 4),
                    pause: rng.pick(&[0, 1, 40, 700]),
                },
                15 => HandlerOutcome::NothingHappened,
                16 => HandlerOutcome::Panics,
                _ => HandlerOutcome::Steps,
            },
            body_bytes: rng.pick(&[10, 10, 200, 900]),
            on_abandoned: rng.pick(&[Abandoned::Reject, Abandoned::Retry, Abandoned::Recover]),
            waits: rng.percent(30),
            lease: rng.pick(&LEASES),
            ttl: rng.pick(&[86_400_000, 86_400_000, 3_600_000, 1_000, 10_000]),
            scope: rng.below(2) as u8,
            key: rng.below(3) as u8,
            clients: rng.pick(&[1, 1, 2, 2, 3]),
            is_reused: rng.percent(10),
        };
        if rng.percent(60) {
            let route = rng.below(ROUTES.len());
            let (lease, ttl, on_abandoned, waits) = ROUTES[route];
            plan = Self {
                surface: Surface::Http(route),
                lease,
                ttl,
                on_abandoned,
                waits,
                ..plan
            };
        } else if matches!(plan.outcome, HandlerOutcome::Stream { .. }) {
            plan.outcome = HandlerOutcome::Done;
        }
        plan
    }
}

impl CallFaults {
    fn draw(rng: &mut Rng) -> Self {
        let latency = rng.pick(&[(1, 2), (1, 4), (1, 30), (40, 100), (100, 200), (1, 400)]);
        let mut rate = |percent| {
            if rng.percent(percent) {
                rng.pick(&[10, 50, 150, 300])
            } else {
                0
            }
        };
        Self {
            latency,
            no_connection: rate(12),
            request_lost: rate(15),
            reply_lost: rate(20),
            late: rate(15),
            late_reply: rate(12),
            duplicated: rate(12),
            error: rate(15),
            broken: rate(12),
            partial: rate(15),
        }
    }
}

fn troubles(
    rng: &mut Rng,
    processes: usize,
    intents: usize,
    chaos: Millis,
) -> Vec<(Millis, Trouble)> {
    let mut troubles = Vec::new();
    let length = |rng: &mut Rng| rng.pick(&[20, 200, 900, 2_500, 6_000, 14_000]);
    let often = |rng: &mut Rng, percent| {
        if rng.percent(percent) {
            1 + rng.below(4)
        } else {
            0
        }
    };
    for _ in 0..often(rng, 40) {
        let everybody = rng.percent(60);
        let process = (!everybody).then(|| rng.below(processes));
        let mode = Mode::of_outage(rng);
        let length = length(rng);
        troubles.push(Trouble::Outage {
            process,
            mode,
            length,
        });
    }
    for _ in 0..often(rng, 25) {
        troubles.push(Trouble::Lock {
            intent: rng.below(intents),
            length: rng.pick(&[200, 2_500, 14_000, 40_000]),
            kind: rng.pick(&[LockKind::Busy, LockKind::Waits, LockKind::HangsBatches]),
        });
    }
    for _ in 0..often(rng, 8) {
        let forgets = rng.pick(&[1, 20, 200, 1_500]);
        troubles.push(Trouble::FailOver { forgets });
    }
    for _ in 0..often(rng, 6) {
        let by = rng.pick(&[-3_000, -200, 200, 3_000, 40_000]);
        troubles.push(Trouble::ClockStep { by });
    }
    for _ in 0..often(rng, 25) {
        troubles.push(Trouble::Kill {
            process: rng.below(processes),
            down: rng.pick(&[10, 500, 5_000, 20_000]),
        });
    }
    for _ in 0..often(rng, 15) {
        troubles.push(Trouble::Freeze {
            process: rng.below(processes),
            length: length(rng),
        });
    }
    for _ in 0..often(rng, 8) {
        troubles.push(Trouble::Shutdown {
            process: rng.below(processes),
            deadline: rng.pick(&[0, 300, 5_000, 30_000]),
            down: rng.pick(&[10, 500, 5_000]),
        });
    }
    troubles
        .into_iter()
        .map(|trouble| (rng.between(0, chaos * 3 / 4), trouble))
        .collect()
}

impl Mode {
    fn of_outage(rng: &mut Rng) -> Self {
        match rng.below(8) {
            0 => Self::NoConnection,
            1 => Self::RequestLost,
            2 => Self::ReplyLost,
            3 => Self::Late,
            4 => Self::Broken,
            _ => Self::Error(rng.pick(&ERRORS)),
        }
    }

    /// How one call goes wrong, if it does.
    pub fn of_call(rng: &mut Rng, rates: &CallFaults) -> Option<Self> {
        let of_error = |rng: &mut Rng| Self::Error(rng.pick(&ERRORS));
        if rng.per_mille(rates.no_connection) {
            Some(Self::NoConnection)
        } else if rng.per_mille(rates.request_lost) {
            Some(Self::RequestLost)
        } else if rng.per_mille(rates.reply_lost) {
            Some(Self::ReplyLost)
        } else if rng.per_mille(rates.late) {
            Some(Self::Late)
        } else if rng.per_mille(rates.late_reply) {
            Some(Self::LateReply)
        } else if rng.per_mille(rates.duplicated) {
            Some(Self::Duplicated)
        } else if rng.per_mille(rates.error) {
            Some(of_error(rng))
        } else if rng.per_mille(rates.broken) {
            Some(Self::Broken)
        } else if rng.per_mille(rates.partial) {
            Some(Self::Partial)
        } else {
            None
        }
    }
}
