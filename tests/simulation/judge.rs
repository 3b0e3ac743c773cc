//! The invariants, and what excuses what.
//!
//! The judge sees everything: what the store executed, what the network did to each call, which process
//! was killed or stood still, what handlers did, what clients were told. A history without an excuse
//! must keep every invariant; the README of this folder has the list.

use std::collections::{BTreeMap, BTreeSet};

use idempotent_runtime::{RecordKey, StoredResponse, Token};

use crate::client::{Answer, Client, Said};
use crate::ledger::{End, Ledger, Run};
use crate::link::Operation;
use crate::model::{LifeId, StoreEvent};
use crate::plan::{HandlerOutcome, Millis, Plan, Surface};
use crate::process::ProcessId;

/// More than a waiter of ten seconds needs who looks every 50 ms, at two records that it gives up each time.
const MOST_CALLS: u32 = 1_000;

/// A broken invariant.
#[derive(Clone, Debug)]
pub struct Violation {
    pub invariant: &'static str,
    pub what: String,
}

/// One life of a record: from its first claim until it is free again.
#[derive(Clone, Debug)]
struct Life {
    key: RecordKey,
    attempts: Vec<(Token, Millis)>,
    completed: Option<Stored>,
    end: Option<LifeEnd>,
    /// The store has forgotten something about it, so that anything may happen.
    is_tainted: bool,
    /// A later attempt took over with an excuse: the answers of the two may differ.
    was_taken_over: bool,
    /// An attempt gave itself up.
    was_abandoned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LifeEnd {
    Released,
    /// At the end of its TTL, or of the retention.
    Expired,
}

/// What is known of a stored response.
#[derive(Clone, Copy, Debug)]
struct Stored {
    run: Option<usize>,
    is_tombstone: bool,
}

/// What is known of a claim's token.
#[derive(Clone, Debug)]
struct Claimant {
    process: ProcessId,
    request: Option<u64>,
    intent: Option<usize>,
    lease: Millis,
    sent_at: Millis,
    /// A call that had to do with its completion went wrong.
    has_failed: bool,
    has_failed_to_complete: bool,
    /// A renewal of its lease went wrong.
    has_failed_to_renew: bool,
    /// Memory that is held for its response, until that is stored.
    pending_bytes: usize,
    /// The saves of its progress, by where they end, and when they were first sent.
    saves: BTreeMap<usize, Millis>,
    /// What had taken effect by then is in the record.
    saved_until: Option<Millis>,
}

/// A time in which a process cannot be expected to have kept a lease.
#[derive(Clone, Copy, Debug)]
struct Blocked {
    process: Option<usize>,
    key: Option<RecordKey>,
    from: Millis,
    to: Millis,
}

pub struct Judge {
    plan: Plan,
    ledger: Ledger,
    lives: BTreeMap<LifeId, Life>,
    claimants: BTreeMap<[u8; 16], Claimant>,
    blocked: Vec<Blocked>,
    ended: BTreeMap<ProcessId, Millis>,
    /// What the store has forgotten something about.
    forgotten: BTreeSet<RecordKey>,
    /// What an operator has removed, or tried to, and when.
    removed: BTreeMap<RecordKey, Millis>,
    clock_steps: Vec<(Millis, i64)>,
    operators: BTreeMap<u64, operators::Operator>,
    pub violation: Option<Violation>,
    /// How many calls each request has made by itself.
    calls_of: BTreeMap<u64, u32>,
    /// Store calls that are made for requests and for what they left, and requests by their end.
    pub calls: u64,
    pub requests: u64,
    pub failed: u64,
}

mod adversary;
mod clients;
mod end;
mod engines;
mod operators;
mod recoveries;

/// What an answer says of its origin.
pub fn parse_answer(text: &str) -> Option<(usize, usize, u8)> {
    let field = |name: &str| -> Option<u64> {
        let (_, rest) = text.split_once(name)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    let (run, intent) = (field("run=")?, field("intent=")?);
    Some((run as usize, intent as usize, field("variant=")? as u8))
}

fn run_of(response: &StoredResponse) -> Option<usize> {
    let body = response.body.as_ref()?;
    parse_answer(&String::from_utf8_lossy(body)).map(|(run, ..)| run)
}

impl Judge {
    pub fn new(plan: &Plan, ledger: &Ledger) -> Self {
        Self {
            plan: plan.clone(),
            ledger: ledger.clone(),
            lives: BTreeMap::new(),
            claimants: BTreeMap::new(),
            blocked: Vec::new(),
            ended: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            removed: BTreeMap::new(),
            clock_steps: Vec::new(),
            operators: BTreeMap::new(),
            violation: None,
            calls_of: BTreeMap::new(),
            calls: 0,
            requests: 0,
            failed: 0,
        }
    }

    pub fn violate(&mut self, invariant: &'static str, what: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, what });
        }
    }
}
