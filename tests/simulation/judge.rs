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
    clock_steps: Vec<(Millis, i64)>,
    pub violation: Option<Violation>,
    /// How many calls each request has made by itself.
    calls_of: BTreeMap<u64, u32>,
    /// Store calls that are made for requests and for what they left, and requests by their end.
    pub calls: u64,
    pub requests: u64,
    pub failed: u64,
}

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
            clock_steps: Vec::new(),
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

    // What the adversary did.

    pub fn block(
        &mut self,
        process: Option<usize>,
        key: Option<RecordKey>,
        from: Millis,
        to: Millis,
    ) {
        self.blocked.push(Blocked {
            process,
            key,
            from,
            to,
        });
    }

    pub fn process_ended(&mut self, process: ProcessId, now: Millis) {
        self.ended.insert(process, now);
        for claimant in self.claimants.values_mut() {
            if claimant.process == process {
                claimant.pending_bytes = 0;
            }
        }
    }

    pub fn clock_stepped(&mut self, now: Millis, by: i64) {
        self.clock_steps.push((now, by));
    }

    pub fn forgotten(&mut self, life: Option<LifeId>) {
        if let Some(life) = life.and_then(|life| self.lives.get_mut(&life)) {
            life.is_tainted = true;
            self.forgotten.insert(life.key);
        }
    }

    // What the engines did.

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
                if let Some(claimant) = self.claimants.get_mut(owner.token.as_bytes())
                    && claimant.has_failed_to_complete
                {
                    let has_body = response.body.is_some();
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

    /// A response is stored, or will never be.
    pub fn call_succeeded(&mut self, operation: &Operation) {
        if let Operation::Complete(owner, ..) = operation
            && let Some(claimant) = self.claimants.get_mut(owner.token.as_bytes())
        {
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
    fn excused(&self, process: usize, key: &RecordKey, lease: Millis, now: Millis) -> Millis {
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
    fn living_run(&self, claimant: &Claimant) -> Option<usize> {
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
                let life_of = Life {
                    key,
                    attempts: vec![(token, now)],
                    completed: None,
                    end: None,
                    is_tainted: false,
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
                if let Some(life) = self.lives.get_mut(&life) {
                    life.completed = Some(Stored {
                        run: run_of(&response),
                        is_tombstone: response.body.is_none(),
                    });
                }
            }
            StoreEvent::Released { key, life } => {
                let Some(life) = self.lives.get_mut(&life) else {
                    return;
                };
                life.end = Some(LifeEnd::Released);
                let life = life.clone();
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
    fn effect_under(&self, life: &Life) -> Option<usize> {
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
    fn attempt_of(&self, life: &Life, run: &Run) -> Option<usize> {
        life.attempts.iter().rposition(|(token, at)| {
            let Some(claimant) = self.claimants.get(token.as_bytes()) else {
                return false;
            };
            claimant.request.is_some() && claimant.request == run.request && *at <= run.begun_at
        })
    }

    fn judge_take_over(
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

    // What clients were told.

    pub fn answered(&mut self, request: u64, client: &Client, answer: &Answer) {
        self.requests += 1;
        self.failed += u64::from(answer.said == Said::Unavailable);
        let intent = self.ledger.intent(client.intent);
        match &answer.said {
            Said::Done(text) => match parse_answer(text) {
                Some((run, of_intent, variant)) => {
                    if of_intent != client.intent || variant != client.variant {
                        let what = format!(
                            "intent {}.{} was shown the answer of {of_intent}.{variant}",
                            client.intent, client.variant
                        );
                        self.violate("I5", what);
                    }
                    self.judge_done(run, answer.is_replay);
                }
                None => self.violate("I2", format!("an answer that no handler gave: {text:?}")),
            },
            Said::NotRetained => {
                let is_possible = self.plan.largest_response < usize::MAX
                    || self.plan.max_pending_bytes < 1_000_000;
                if !is_possible {
                    self.violate("I2", "an answer was not retained without a reason".into());
                }
            }
            Said::Panicked if intent.outcome == HandlerOutcome::Panics => {}
            Said::Failed | Said::Panicked => {
                let is_possible = match intent.outcome {
                    HandlerOutcome::Panics | HandlerOutcome::Steps => true,
                    HandlerOutcome::Stream { .. }
                    | HandlerOutcome::Done
                    | HandlerOutcome::NothingHappened => false,
                };
                if !is_possible {
                    let what = format!("intent {} failed, and its handler does not", client.intent);
                    self.violate("I2", what);
                }
            }
            Said::Unavailable => {
                let ledger = self.ledger.lock();
                let ran = ledger
                    .runs
                    .iter()
                    .any(|run| run.request == Some(request) && !run.effects.is_empty());
                drop(ledger);
                if ran && intent.outcome != HandlerOutcome::Steps {
                    let what = "a client was told that nothing was done, and it was done".into();
                    self.violate("truth", what);
                }
            }
            Said::Reused => {
                if !self.is_contested(client.intent) {
                    let what = format!("intent {} was told that its key is reused", client.intent);
                    self.violate("I5", what);
                }
            }
            Said::Nothing => {
                let is_possible = matches!(
                    intent.outcome,
                    HandlerOutcome::NothingHappened | HandlerOutcome::Steps
                );
                if !is_possible {
                    let what =
                        format!("intent {} did nothing, and its handler does", client.intent);
                    self.violate("I2", what);
                }
            }
            Said::Unknown => self.judge_unknown(request),
            Said::InFlight => {}
            Said::Other(_) => self.violate("I2", format!("an answer of no kind: {answer:?}")),
        }
    }

    /// What a handler has answered is not unknown, whatever has become of its claim meanwhile.
    fn judge_unknown(&mut self, request: u64) {
        let runs = self.ledger.lock().runs.clone();
        let is_finished =
            |run: &Run| run.request == Some(request) && run.ended == Some(End::Answered);
        let Some(number) = runs.iter().position(is_finished) else {
            return;
        };
        let lives = self.lives_of(&runs[number]);
        let mut lives = lives.iter().map(|(life, _)| life);
        if lives.all(|life| !life.is_tainted && life.end.is_none()) {
            let what = format!("run {number} answered, and its client is told that it is unknown");
            self.violate("I4", what);
        }
    }

    /// Whether another request has the same record.
    fn is_contested(&self, intent: usize) -> bool {
        let ledger = self.ledger.lock();
        let own = ledger.intents[intent];
        let identity = |plan: &crate::plan::IntentPlan| {
            let operation = match plan.surface {
                Surface::Http(route) => (route, 0, 0),
                Surface::Function => (100, plan.lease, plan.ttl),
            };
            (operation, plan.scope, plan.key)
        };
        let same = ledger
            .intents
            .iter()
            .filter(|it| identity(it) == identity(&own));
        own.is_reused || (own.key < 100 && same.count() > 1)
    }

    /// Of each of its request's records the life that a run is of, and which attempt of it.
    fn lives_of(&self, run: &Run) -> Vec<(&Life, usize)> {
        let mut lives: BTreeMap<RecordKey, (&Life, usize)> = BTreeMap::new();
        for life in self.lives.values() {
            if let Some(attempt) = self.attempt_of(life, run) {
                lives.insert(life.key, (life, attempt));
            }
        }
        lives.into_values().collect()
    }

    /// The answer of a run was shown: it is stored, or the store has refused it.
    fn judge_done(&mut self, number: usize, is_replay: bool) {
        let run = self.ledger.lock().runs[number].clone();
        let lives = self.lives_of(&run);
        // The one that it ran under.
        let Some((life, attempt)) = lives
            .iter()
            .rev()
            .find(|(life, _)| Some(life.key) == run.record)
        else {
            return;
        };
        let is_shown = |life: &Life| life.completed.is_some_and(|it| it.run == Some(number));
        if life.is_tainted || self.lives.values().any(is_shown) {
            return;
        }
        let what = match life.completed {
            Some(stored) if stored.run == Some(number) || stored.is_tombstone => return,
            Some(_) if life.was_taken_over => return,
            Some(stored) => {
                format!("run {number} was shown, and stored is {stored:?}")
            }
            None => {
                let has_failed = |token: &Token| {
                    let claimant = self.claimants.get(token.as_bytes());
                    claimant.is_none_or(|it| it.has_failed)
                };
                // What a recovery function has found is answered as if its handler had answered now.
                let is_recovered =
                    self.ledger.intent(run.intent).on_abandoned == crate::plan::Abandoned::Recover;
                let is_excused = if is_replay && is_recovered {
                    life.attempts.iter().any(|(token, _)| has_failed(token))
                } else {
                    // Before it is stored, the claims under other secrets are renewed.
                    let has_not_been_told = |(other, attempt): &(&Life, usize)| {
                        let (token, _) = &other.attempts[*attempt];
                        let claimant = self.claimants.get(token.as_bytes());
                        let is_alias = other.key != life.key;
                        is_alias
                            && claimant.is_none_or(|it| it.has_failed || it.has_failed_to_renew)
                    };
                    let is_unknown = lives.iter().any(has_not_been_told);
                    !is_replay && (is_unknown || has_failed(&life.attempts[*attempt].0))
                };
                if is_excused {
                    return;
                }
                let what = format!("run {number} was answered before it was stored");
                return self.violate("I4", what);
            }
        };
        self.violate("I2", what);
    }

    /// The store has said of a record that it is abandoned.
    pub fn judge_abandoned(&mut self, key: &RecordKey, life: LifeId, now: Millis) {
        let Some(life) = self.lives.get(&life) else {
            return;
        };
        if life.is_tainted || life.was_abandoned {
            return;
        }
        let token = life.attempts.last().map(|(token, _)| token);
        let Some(claimant) = token
            .and_then(|it| self.claimants.get(it.as_bytes()))
            .cloned()
        else {
            return;
        };
        let Some(run) = self.living_run(&claimant) else {
            return;
        };
        let lease = claimant.lease;
        let excused = self.excused(claimant.process.slot, key, lease, now);
        if excused * 2 < lease {
            let what = format!(
                "record {key} is called abandoned while run {run} is alive in process {:?} (lease {lease} ms, of \
                 which {excused} ms are excused)",
                claimant.process
            );
            self.violate("I8", what);
        }
    }

    // The end.

    pub fn judge_effects(&mut self) {
        let runs = self.ledger.lock().runs.clone();
        let mut by_intent: BTreeMap<(usize, &'static str), Vec<usize>> = BTreeMap::new();
        let mut effects: Vec<_> = runs
            .iter()
            .enumerate()
            .flat_map(|(number, run)| {
                run.effects
                    .iter()
                    .map(move |(label, at)| (*at, number, *label))
            })
            .collect();
        effects.sort_unstable();
        for (at, number, label) in effects {
            let before = by_intent.entry((runs[number].intent, label)).or_default();
            for first in before.iter() {
                let follows = self
                    .may_follow(&runs[*first], &runs[number])
                    .and_then(|()| self.was_not_saved(&runs[*first], &runs[number], label));
                if let Err(why) = follows {
                    let intent = runs[number].intent;
                    let what = format!(
                        "intent {intent} took effect ({label}) in run {first} and again in run {number} at \
                         {at}: {why}"
                    );
                    return self.violate("I1", what);
                }
            }
            before.push(number);
        }
    }

    /// Whether the effect of one run may come after that of another one.
    fn may_follow(&self, first: &Run, second: &Run) -> Result<(), String> {
        let (before, after) = (self.lives_of(first), self.lives_of(second));
        let mut why = "they share no record".to_owned();
        for (life, attempt) in &before {
            for (other, later) in after.iter().filter(|(other, _)| other.key == life.key) {
                let is_same = std::ptr::eq(*life, *other);
                if life.is_tainted
                    || other.is_tainted
                    || life.end == Some(LifeEnd::Expired)
                    // Each take-over on the way was judged when it happened.
                    || (is_same && attempt != later)
                {
                    return Ok(());
                }
                why = if is_same {
                    format!("both are attempt {} of record {}", attempt + 1, life.key)
                } else {
                    format!("record {} was still alive: {:?}", life.key, life.end)
                };
            }
        }
        Err(why)
    }

    /// A step that is in the record is not run again by a later attempt.
    fn was_not_saved(&self, first: &Run, second: &Run, label: &str) -> Result<(), String> {
        let after = self.lives_of(second);
        for (life, attempt) in self.lives_of(first) {
            let is_same = |(other, _): &&(&Life, usize)| std::ptr::eq(life, *other);
            let is_later = after
                .iter()
                .find(is_same)
                .is_some_and(|(_, later)| attempt < *later);
            if !is_later || life.is_tainted {
                continue;
            }
            let claimant = self.claimants.get(life.attempts[attempt].0.as_bytes());
            let saved_until = claimant.and_then(|it| it.saved_until);
            let at = first
                .effects
                .iter()
                .find(|(it, _)| *it == label)
                .map(|(_, at)| *at);
            if at.is_some() && at <= saved_until {
                return Err("the step was in the record".to_owned());
            }
        }
        Ok(())
    }

    /// Whether an abandoned record has a reason to be there at the end.
    pub fn is_abandonment_explained(&self, life: LifeId) -> bool {
        let Some(life) = self.lives.get(&life) else {
            return false;
        };
        if self.is_explained(life) {
            return true;
        }
        // While a secret is rotated, all records of a request say what one of them says.
        let intent = |life: &Life| {
            let (token, _) = life.attempts.last()?;
            self.claimants.get(token.as_bytes())?.intent
        };
        life.was_abandoned
            && self.lives.values().any(|other| {
                other.key != life.key && intent(other) == intent(life) && self.is_explained(other)
            })
    }

    fn is_explained(&self, life: &Life) -> bool {
        // A question for a record that the store has forgotten finds none, though it was completed.
        if life.is_tainted || life.was_taken_over || self.forgotten.contains(&life.key) {
            return true;
        }
        let runs = self.ledger.lock().runs.clone();
        let has_died = life.attempts.iter().any(|(token, _)| {
            let claimant = self.claimants.get(token.as_bytes());
            claimant.is_none_or(|it| self.ended.contains_key(&it.process))
        });
        let gave_up = runs.iter().any(|run| {
            self.attempt_of(life, run).is_some()
                && matches!(run.ended, Some(End::Panicked | End::CutOff))
        });
        has_died || (life.was_abandoned && gave_up)
    }

    /// Each run that ended in a process that lives is stored, if its record is there.
    pub fn judge_stored(&mut self, present: &BTreeSet<LifeId>) {
        let runs = self.ledger.lock().runs.clone();
        for (number, run) in runs.iter().enumerate() {
            let is_forgotten = self.lives_of(run).iter().any(|(life, _)| life.is_tainted);
            let is_gone = is_forgotten || self.ended.contains_key(&run.process);
            if run.ended != Some(End::Answered) || is_gone {
                continue;
            }
            let is_open = |(id, life): (&LifeId, &Life)| {
                present.contains(id)
                    && self.attempt_of(life, run).is_some()
                    && life.completed.is_none()
                    && !life.is_tainted
            };
            if self.lives.iter().any(is_open) {
                let what = format!("run {number} answered, and its record is not completed");
                return self.violate("I4", what);
            }
        }
    }

    pub fn describe_lives(&self) -> Vec<String> {
        let lives = self.lives.iter();
        lives
            .map(|(number, life)| format!("life {number}: {life:?}"))
            .collect()
    }
}
