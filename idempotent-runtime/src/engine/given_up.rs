//! Claims that are given up: nothing has run under them.
//!
//! They wait in one bounded queue and are served in batches, so that a store in trouble is asked once
//! for a thousand of them. A claim whose question got no reply stays in the queue until the question
//! cannot arrive any more, whatever the store says meanwhile: what arrives late would hold the key for
//! nobody.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Engine;
use super::calls::lock;
use super::pauses::Pauses;
use super::unwind::catch_unwind;
use crate::record::Owner;
use crate::store::{Release, Renewal, Renewed, StoreError, StoreErrorKind};

/// The most memory that the queue takes. What is over it is left to its lease.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The most claims in one store call.
const BATCH: usize = 1000;

/// For how long at least a question without a reply may still arrive: bytes in a server's receive
/// buffer are executed when the server goes on, whether or not the client is there.
const LATEST_ARRIVAL: Duration = Duration::from_secs(10 * 60);

/// The longest pause between two tries while the store does not reply: how soon after its recovery the
/// key is free.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The first pause between two looks for a question that may still arrive, once the store has replied.
const FIRST_WATCH: Duration = Duration::from_secs(1);

/// The longest pause between two looks for a question that may still arrive; never longer than the
/// lease that it would begin.
const LONGEST_WATCH: Duration = Duration::from_secs(30);

/// How a claim is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Nothing has happened under this record: it is removed.
    Release,
    /// What attempts before this one have done is as unknown as it was: the record stays, abandoned.
    Abandon,
    /// It is not known which attempt was claimed: a take-over that finds no record makes a new one. That
    /// one is released, and any other abandoned.
    Either,
}

impl How {
    /// The first attempt's record is removed. A later attempt cannot speak for the ones before it.
    pub(super) fn of_attempt(attempt: u32) -> Self {
        if attempt == 1 {
            Self::Release
        } else {
            Self::Abandon
        }
    }

    /// That of an alias: abandoned if either is.
    pub(super) fn or(self, other: Self) -> Self {
        if self == Self::Abandon { self } else { other }
    }
}

/// A claim to be given up.
#[derive(Debug)]
pub(super) struct GivenUp {
    owner: Owner,
    how: How,
    /// Until when a record that it has abandoned is there at least.
    abandoned_until: Option<Instant>,
    /// Until when its question may arrive; `None` when it was answered.
    may_arrive_until: Option<Instant>,
    longest_watch: Duration,
    /// When to look for the first time, from now on.
    first_look: Duration,
    pauses: Pauses,
    /// Keeps [`Engine::shutdown`] waiting until the store has replied once.
    unanswered: Option<TaskTrackerToken>,
}

impl GivenUp {
    pub(super) fn new(owner: Owner, how: How) -> Self {
        Self {
            owner,
            how,
            abandoned_until: None,
            may_arrive_until: None,
            longest_watch: LONGEST_PAUSE,
            first_look: Duration::ZERO,
            pauses: Pauses::up_to(LONGEST_PAUSE),
            unanswered: None,
        }
    }

    /// A question of that time got no reply.
    pub(super) fn may_still_arrive(mut self, asked_at: Instant, lease: Duration) -> Self {
        self.may_arrive_until = Some(asked_at + lease.max(LATEST_ARRIVAL));
        self.longest_watch = lease.clamp(LONGEST_PAUSE, LONGEST_WATCH);
        self
    }

    /// The record is completed, so what arrives before its end does no harm. Afterwards it would hold the
    /// key for nobody. `None` if nothing can arrive then.
    pub(super) fn once_expired(mut self, ttl: Duration) -> Option<Self> {
        self.first_look = ttl;
        (ttl < LATEST_ARRIVAL).then_some(self)
    }
}

/// The claims that are being given up, by when to look at them next.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// The runtimes that serve it.
    servers: Mutex<Vec<tokio::runtime::Id>>,
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

impl Engine {
    /// Gives a claim up in the background, on this runtime or the one that is named.
    pub(super) fn hand_over(&self, mut given_up: GivenUp, runtime: &Handle) {
        let first_look = given_up.first_look;
        // A record that is completed is nothing to wait for.
        given_up.unanswered = first_look.is_zero().then(|| self.tasks().token());
        {
            let mut waiting = lock(&self.0.given_up.waiting);
            if waiting.is_full() {
                drop(waiting);
                tracing::warn!(record = %given_up.owner.key, "left a claim to the end of its lease");
                return;
            }
            waiting.insert(Instant::now() + first_look, given_up);
        }
        self.serve_given_up(&Handle::try_current().unwrap_or_else(|_| runtime.clone()));
    }

    fn serve_given_up(&self, runtime: &Handle) {
        let id = runtime.id();
        {
            let mut servers = lock(&self.0.given_up.servers);
            if servers.contains(&id) {
                self.0.given_up_changed.notify_waiters();
                return;
            }
            servers.push(id);
        }
        let serving = Serving(self.clone(), id);
        // Not tracked: a shutdown waits for what is unanswered, and not for what may never arrive.
        runtime.spawn(serve(serving));
    }

    /// Gives up what is due, and says when to look next; `None` when there is nothing left.
    async fn give_up_due(&self) -> Option<Instant> {
        loop {
            let now = Instant::now();
            let batch = lock(&self.0.given_up.waiting).take_due(now);
            if batch.is_empty() {
                let waiting = lock(&self.0.given_up.waiting);
                return waiting.due.first_key_value().map(|((at, _), _)| *at);
            }
            let asked = batch.len();
            let (mut released, mut abandoned, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
            for given_up in batch {
                match given_up.how_at(now) {
                    How::Release => released.push(given_up),
                    How::Abandon => abandoned.push(given_up),
                    How::Either => unknown.push(given_up),
                }
            }
            for (given_up, how) in self.find_out(unknown).await {
                match how {
                    How::Release => released.push(given_up),
                    How::Abandon | How::Either => abandoned.push(given_up),
                }
            }
            self.give_up_all(released, How::Release).await;
            self.give_up_all(abandoned, How::Abandon).await;
            lock(&self.0.given_up.waiting).asked -= asked;
        }
    }

    /// Which attempts these claims have become, as far as they hold a record: the others are looked at again.
    ///
    /// They are renewed first, because only what their token holds cannot become another attempt between
    /// a look and a release.
    async fn find_out(&self, unknown: Vec<GivenUp>) -> Vec<(GivenUp, How)> {
        let mut known = Vec::new();
        if unknown.is_empty() {
            return known;
        }
        let renewals: Vec<Renewal> = unknown.iter().map(|it| self.renewal(it.owner)).collect();
        let renewed = catch_unwind(self.0.calls.renew(&renewals)).await;
        let renewed = renewed.unwrap_or_else(|_| {
            vec![Err(self.0.calls.error(StoreErrorKind::Unavailable)); renewals.len()]
        });
        for (given_up, renewed) in unknown.into_iter().zip(renewed) {
            let record = match renewed {
                Ok(Renewed::Renewed) => self.read(&given_up.owner.key).await,
                Ok(Renewed::Lost) => Ok(None),
                Err(error) => Err(error),
            };
            match record {
                Ok(Some(record)) => known.push((given_up, How::of_attempt(record.attempt))),
                Ok(None) => self.look_again(given_up, &Ok(Release::Lost)),
                Err(error) => self.look_again(given_up, &Err(error)),
            }
        }
        known
    }

    /// For as long as it takes to give the claim up.
    fn renewal(&self, owner: Owner) -> Renewal {
        Renewal {
            owner,
            lease: LONGEST_PAUSE,
            retention: self.0.retention,
        }
    }

    fn look_again(&self, given_up: GivenUp, result: &Result<Release, StoreError>) {
        let now = Instant::now();
        if let Some((pause, given_up)) = given_up.answered(result, now, self.0.retention) {
            lock(&self.0.given_up.waiting).plan(now, pause, given_up);
        }
    }

    async fn give_up_all(&self, batch: Vec<GivenUp>, how: How) {
        if batch.is_empty() {
            return;
        }
        let owners: Vec<Owner> = batch.iter().map(|given_up| given_up.owner).collect();
        let asked = catch_unwind(async {
            match how {
                How::Release => self.0.calls.release(&owners).await,
                How::Abandon | How::Either => self.0.calls.abandon(&owners).await,
            }
        });
        let results = asked.await.unwrap_or_else(|_| {
            vec![Err(self.0.calls.error(StoreErrorKind::Unavailable)); owners.len()]
        });
        for (given_up, result) in batch.into_iter().zip(results) {
            self.look_again(given_up, &result);
        }
    }
}

impl GivenUp {
    /// Once a record that was abandoned is gone, a question that arrives makes a new one.
    fn how_at(&self, now: Instant) -> How {
        let is_gone = self.abandoned_until.is_some_and(|until| until <= now);
        match self.how {
            How::Abandon if is_gone => How::Either,
            how => how,
        }
    }

    /// After which pause to look again, if there is a reason.
    fn answered(
        mut self,
        result: &Result<Release, StoreError>,
        now: Instant,
        retention: Duration,
    ) -> Option<(Duration, Self)> {
        match result {
            Ok(_) => {
                self.unanswered = None;
                self.abandoned_until.get_or_insert(now + retention);
                self.may_arrive_until.filter(|until| now < *until)?;
                self.pauses.limit_to(FIRST_WATCH, self.longest_watch);
            }
            Err(error) if error.is_about_item() => {
                // It may be read or repaired later, but not for ever.
                let until = *self.may_arrive_until.get_or_insert(now + LATEST_ARRIVAL);
                self.unanswered = None;
                if now >= until {
                    tracing::error!(record = %self.owner.key, error = error as &dyn std::error::Error,
                        "cannot give up a claim");
                    return None;
                }
            }
            Err(error) => {
                tracing::debug!(record = %self.owner.key, error = error as &dyn std::error::Error,
                    "could not give up a claim, trying again");
                // What was sent and not answered can arrive late too, and does no harm.
            }
        }
        Some((self.pauses.next(), self))
    }
}

async fn serve(serving: Serving) {
    let engine = &serving.0;
    loop {
        // Before the look, so that what is added after it is seen.
        let changed = engine.0.given_up_changed.notified();
        let Some(next) = engine.give_up_due().await else {
            let queue = &engine.0.given_up;
            let mut servers = lock(&queue.servers);
            if lock(&queue.waiting).due.is_empty() {
                // Under the lock: who adds something now finds nobody serving, and begins.
                servers.retain(|id| *id != serving.1);
                return;
            }
            continue;
        };
        if engine.is_closing() && engine.tasks().is_empty() {
            return;
        }
        tokio::select! {
            biased;
            () = changed => {}
            () = sleep_until(next) => {}
        }
    }
}
