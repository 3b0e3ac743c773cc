//! Claims that are given up: nothing has run under them.
//!
//! They wait in one bounded queue and are served in batches, so that a store in trouble is asked once
//! for a thousand of them. A claim whose question got no reply stays in the queue until the question
//! cannot arrive any more, whatever the store says meanwhile: what arrives late would hold the key for
//! no attempt.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use self::claim::{FIRST_WATCH, LONGEST_PAUSE};
pub(super) use self::claim::{GivenUp, How};
use super::Engine;
use super::calls::lock;
use crate::prompt;
use crate::record::Owner;
use crate::store::{Release, Renewal, Renewed, StoreError};

mod claim;

/// The most memory that the queue takes. What is over it is left to its lease.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The most claims in one store call.
const BATCH: usize = 1000;

/// With so many waiting, more of them wait for up to a second before they are looked at for the first time: many
/// that are given up in a short time share a call.
const MANY: usize = 16;

/// How late a look may be until the runtimes that serve the queue are taken to stand still. A round of calls takes less, as a rule;
/// where it does not, another runtime serves the queue beside them, which does no harm.
const SLACK: Duration = Duration::from_secs(10);

/// Ends a claim that has had no effect, and says whether it was still this owner's.
pub(super) async fn give_up(
    engine: &Engine,
    owner: &Owner,
    how: How,
) -> Result<Release, StoreError> {
    let owners = std::slice::from_ref(owner);
    let mut results = match how {
        How::Release => engine.0.calls.release(owners).await,
        How::Abandon | How::Either => engine.0.calls.abandon(owners).await,
    };
    results.pop().unwrap_or(Ok(Release::Lost))
}

/// The claims that are being given up, by when to look at them next.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// The runtimes that serve it.
    servers: Mutex<Vec<tokio::runtime::Id>>,
    /// Whether there may be anything to serve. Set before that is seen, and cleared under the lock of what waits.
    is_needed: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    due: BTreeMap<(Instant, u64), GivenUp>,
    next_number: u64,
    /// Those that are in a store call.
    asked: usize,
}

impl Waiting {
    fn insert(&mut self, at: Instant, given_up: GivenUp) {
        let number = self.next_number;
        self.next_number += 1;
        self.due.insert((at, number), given_up);
    }

    /// Plans the next look at a claim together with one that is planned already, if that is at most half of
    /// the pause earlier: what was given up at about the same time is looked at in one call.
    fn plan(&mut self, now: Instant, pause: Duration, given_up: GivenUp) {
        let at = now + pause;
        let mut planned = self.due.range((now + pause / 2, 0)..=(at, u64::MAX));
        let shared = planned.next_back().map(|((planned, _), _)| *planned);
        self.insert(shared.unwrap_or(at), given_up);
    }

    fn is_full(&self) -> bool {
        // A tree is about two thirds full.
        let each = size_of::<((Instant, u64), GivenUp)>() * 3 / 2;
        (self.due.len() + self.asked + 1) * each > MAX_BYTES
    }

    /// Whether a look at the first of them is late.
    fn is_overdue(&self, now: Instant) -> bool {
        let first = self.due.first_key_value();
        first.is_some_and(|((at, _), _)| *at + SLACK <= now)
    }

    fn take_due(&mut self, now: Instant) -> Vec<GivenUp> {
        let mut taken = Vec::new();
        while taken.len() < BATCH
            && let Some(first) = self.due.first_entry()
            && first.key().0 <= now
        {
            taken.push(first.remove());
        }
        self.asked += taken.len();
        taken
    }
}

/// Makes a runtime one that serves the queue, until its task ends: also when the runtime does.
struct Serving(Engine, tokio::runtime::Id);

impl Drop for Serving {
    fn drop(&mut self) {
        lock(&self.0.0.given_up.servers).retain(|id| *id != self.1);
    }
}

/// Gives a claim up in the background, on this runtime or the one that is named.
pub(super) fn hand_over(engine: &Engine, mut given_up: GivenUp, runtime: &Handle) {
    let first_look = given_up.first_look;
    // A record that is completed is nothing to wait for.
    given_up.unanswered = first_look.is_zero().then(|| engine.tasks().token());
    {
        let mut waiting = lock(&engine.0.given_up.waiting);
        if waiting.is_full() {
            drop(waiting);
            tracing::warn!(record = %given_up.owner.key, "too many claims wait to be given up; this one ends with its lease");
            return;
        }
        let now = Instant::now();
        if first_look.is_zero() && waiting.due.len() >= MANY {
            waiting.plan(now, FIRST_WATCH, given_up);
        } else {
            waiting.insert(now + first_look, given_up);
        }
        engine.0.given_up.is_needed.store(true, Ordering::Release);
    }
    serve_given_up(
        engine,
        &Handle::try_current().unwrap_or_else(|_| runtime.clone()),
    );
}

/// Sees to it that what waits is served: the runtime that has served it may have ended, or stand still. Without a runtime it does
/// nothing, and while nothing waits it costs next to nothing.
pub(super) fn look_after(engine: &Engine, now: Instant) {
    let queue = &engine.0.given_up;
    if !queue.is_needed.load(Ordering::Acquire) {
        return;
    }
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    let is_served = {
        let servers = lock(&queue.servers);
        servers.contains(&runtime.id())
            || !(servers.is_empty() || lock(&queue.waiting).is_overdue(now))
    };
    if !is_served {
        serve_given_up(engine, &runtime);
    }
}

fn serve_given_up(engine: &Engine, runtime: &Handle) {
    let id = runtime.id();
    {
        let mut servers = lock(&engine.0.given_up.servers);
        if servers.contains(&id) {
            engine.0.given_up_changed.notify_waiters();
            prompt::displace(runtime);
            return;
        }
        servers.push(id);
    }
    let serving = Serving(engine.clone(), id);
    // Not tracked: a shutdown waits for what is unanswered, and not for what may never arrive.
    prompt::spawn(runtime, serve(serving));
}

/// Gives up what is due, and says when to look next; `None` when there is nothing left.
async fn give_up_due(engine: &Engine) -> Option<Instant> {
    loop {
        let now = Instant::now();
        let mut asked = Asked::take_due(engine, now);
        if asked.count == 0 {
            let waiting = lock(&engine.0.given_up.waiting);
            return waiting.due.first_key_value().map(|((at, _), _)| *at);
        }
        find_out(engine, &mut asked).await;
        give_up_all(engine, &mut asked.released, How::Release).await;
        give_up_all(engine, &mut asked.abandoned, How::Abandon).await;
    }
}

/// Which attempts these claims have become, as far as they hold a record: the others are looked at again.
///
/// They are renewed first, because only what their token holds cannot become another attempt between
/// a look and a release.
async fn find_out(engine: &Engine, asked: &mut Asked<'_>) {
    if asked.unknown.is_empty() {
        return;
    }
    let owners = asked.unknown.iter().map(|it| it.owner);
    let renewals: Vec<Renewal> = owners.map(|owner| renewal(engine, owner)).collect();
    let mut renewed = engine.0.calls.renew(&renewals).await;
    // From the end, so that each stays where it is until it is known what it is.
    while let (Some(given_up), Some(renewed)) = (asked.unknown.last(), renewed.pop()) {
        let record = match renewed {
            Ok(Renewed::Renewed) => engine.read(&given_up.owner.key).await,
            Ok(Renewed::Lost) => Ok(None),
            Err(error) => Err(error),
        };
        let Some(given_up) = asked.unknown.pop() else {
            return;
        };
        match record {
            Ok(Some(record)) => asked.sort_in(given_up, How::of_attempt(record.attempt)),
            Ok(None) => look_again(engine, given_up, &Ok(Release::Lost)),
            Err(error) => look_again(engine, given_up, &Err(error)),
        }
    }
}

/// For as long as it takes to give the claim up.
fn renewal(engine: &Engine, owner: Owner) -> Renewal {
    Renewal {
        owner,
        lease: LONGEST_PAUSE,
        retention: engine.0.retention,
    }
}

fn look_again(engine: &Engine, given_up: GivenUp, result: &Result<Release, StoreError>) {
    let now = Instant::now();
    let (retention, unanswered_at) = (engine.0.retention, engine.0.calls.unanswered_at());
    if let Some((pause, given_up)) = given_up.answered(result, now, retention, unanswered_at) {
        lock(&engine.0.given_up.waiting).plan(now, pause, given_up);
    }
}

async fn give_up_all(engine: &Engine, batch: &mut Vec<GivenUp>, how: How) {
    if batch.is_empty() {
        return;
    }
    let owners: Vec<Owner> = batch.iter().map(|given_up| given_up.owner).collect();
    let results = match how {
        How::Release => engine.0.calls.release(&owners).await,
        How::Abandon | How::Either => engine.0.calls.abandon(&owners).await,
    };
    for (given_up, result) in std::mem::take(batch).into_iter().zip(results) {
        look_again(engine, given_up, &result);
    }
}

/// Claims that are in a store call. Those that have no answer when this is dropped, because the runtime ends,
/// wait again, for another one.
struct Asked<'a> {
    engine: &'a Engine,
    count: usize,
    unknown: Vec<GivenUp>,
    released: Vec<GivenUp>,
    abandoned: Vec<GivenUp>,
}

impl<'a> Asked<'a> {
    fn take_due(engine: &'a Engine, now: Instant) -> Self {
        let due = lock(&engine.0.given_up.waiting).take_due(now);
        let mut asked = Self {
            engine,
            count: due.len(),
            unknown: Vec::new(),
            released: Vec::new(),
            abandoned: Vec::new(),
        };
        for given_up in due {
            let how = given_up.how_at(now);
            asked.sort_in(given_up, how);
        }
        asked
    }

    fn sort_in(&mut self, given_up: GivenUp, how: How) {
        match how {
            How::Release => self.released.push(given_up),
            How::Abandon => self.abandoned.push(given_up),
            How::Either => self.unknown.push(given_up),
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.engine.0.given_up.waiting);
        waiting.asked -= self.count;
        let now = Instant::now();
        for list in [&mut self.unknown, &mut self.released, &mut self.abandoned] {
            for given_up in list.drain(..) {
                waiting.insert(now, given_up);
            }
        }
    }
}

async fn serve(serving: Serving) {
    let engine = &serving.0;
    loop {
        // Before the look, so that what is added after it is seen.
        let changed = engine.0.given_up_changed.notified();
        let Some(next) = give_up_due(engine).await else {
            let queue = &engine.0.given_up;
            let mut servers = lock(&queue.servers);
            let waiting = lock(&queue.waiting);
            if waiting.due.is_empty() {
                // What is in the store calls of another runtime comes back when that ends.
                queue.is_needed.store(waiting.asked > 0, Ordering::Release);
                // Under the lock: a caller that adds something now finds no server, and starts one.
                servers.retain(|id| *id != serving.1);
                return;
            }
            continue;
        };
        if engine.is_closing() && engine.tasks().len() == 0 {
            return;
        }
        tokio::select! {
            biased;
            () = changed => {}
            () = sleep_until(next) => {}
        }
    }
}
