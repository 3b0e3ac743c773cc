//! The simulated store's server: one model of the records, with a [`MemoryStore`] beside it that must
//! say the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use idempotent_runtime::store::memory::MemoryStore;
use idempotent_runtime::store::{ClaimRequest, Store, StoreErrorKind};
use idempotent_runtime::{Clock, RecordKey};

use crate::link::{Operation, Reply, error};
use crate::model::{LifeId, Model, StoreEvent};
use crate::plan::{LockKind, Millis};

/// Far from zero, so that the clock can be set back.
const FIRST_TIME: Millis = 10_000_000;

#[derive(Debug)]
pub struct Server {
    pub model: Model,
    shadow: Option<Shadow>,
    /// The store's clock is that much ahead of the simulation's.
    ahead: Millis,
    pub locks: BTreeMap<RecordKey, Lock>,
    largest_response: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct Lock {
    pub until: Millis,
    pub kind: LockKind,
}

#[derive(Debug)]
struct Shadow {
    store: MemoryStore,
    clock: Arc<ShadowClock>,
}

#[derive(Debug, Default)]
struct ShadowClock(AtomicU64);

impl Clock for ShadowClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// What became of an operation.
pub enum Executed {
    Reply(Reply),
    /// It waits for a lock until then.
    Blocked(Millis),
}

/// Some items of a batch are not done.
#[derive(Clone, Copy, Debug)]
pub struct Sabotage {
    /// One bit for each item.
    pub items: u64,
    pub kind: StoreErrorKind,
}

impl Sabotage {
    fn spares(self, index: usize) -> bool {
        self.items >> (index % 64) & 1 == 0
    }
}

impl Server {
    pub fn new(largest_response: usize) -> Self {
        let clock = Arc::new(ShadowClock::default());
        Self {
            model: Model::default(),
            shadow: Some(Shadow {
                store: MemoryStore::builder()
                    .clock(Arc::clone(&clock) as _)
                    .build(),
                clock,
            }),
            ahead: FIRST_TIME,
            locks: BTreeMap::new(),
            largest_response,
        }
    }

    /// The store's time.
    pub fn time(&self, now: Millis) -> Millis {
        now + self.ahead
    }

    pub fn step_clock(&mut self, by: i64) {
        self.ahead = self.ahead.saturating_add_signed(by);
        if by < 0 {
            // Its clock must not go back.
            self.shadow = None;
        }
    }

    /// A replica takes over that lacks what was written after that time.
    /// Returns the lives that it concerns: those that are forgotten, and those that are there again.
    pub fn fail_over(&mut self, since: Millis) -> Vec<(RecordKey, [Option<LifeId>; 2])> {
        self.shadow = None;
        let before: BTreeMap<_, _> = {
            let keys = self.model.keys().into_iter();
            keys.map(|key| (key, self.model.life(&key))).collect()
        };
        let forgotten = self.model.forget_since(self.time(since));
        forgotten
            .into_iter()
            .map(|key| {
                (
                    key,
                    [before.get(&key).copied().flatten(), self.model.life(&key)],
                )
            })
            .collect()
    }

    fn lock(&self, key: &RecordKey, now: Millis) -> Option<Lock> {
        self.locks.get(key).copied().filter(|lock| now < lock.until)
    }

    /// The lock that this operation has to wait for.
    fn blocked_by(&self, operation: &Operation, now: Millis) -> Option<Lock> {
        if matches!(operation, Operation::Get(_)) {
            return None;
        }
        let hangs = |lock: &Lock| match lock.kind {
            LockKind::Busy => false,
            LockKind::Waits => !operation.is_batch(),
            LockKind::HangsBatches => true,
        };
        let locks = operation.keys().into_iter();
        locks.filter_map(|key| self.lock(&key, now)).find(hangs)
    }

    /// Executes an operation that has arrived. The second value is a difference between the model and
    /// the memory store.
    pub fn execute(
        &mut self,
        operation: &Operation,
        sabotage: Option<Sabotage>,
        now: Millis,
    ) -> (Executed, Option<String>) {
        if let Some(lock) = self.blocked_by(operation, now) {
            return (Executed::Blocked(lock.until), None);
        }
        self.model.events.clear();
        let spared = |server: &Self, key: &RecordKey, index: usize| {
            if server.lock(key, now).is_some() {
                return Err(error(StoreErrorKind::Busy));
            }
            match sabotage {
                Some(sabotage) if !sabotage.spares(index) => Err(error(sabotage.kind)),
                _ => Ok(()),
            }
        };
        let time = self.time(now);
        let mut differences = Vec::new();
        let reply = match operation {
            Operation::Claim(claim) => Reply::Claim(spared(self, &claim.owner.key, 0).map(|()| {
                let said = self.model.claim(claim, time);
                let request = ClaimRequest {
                    owner: claim.owner,
                    fingerprint: claim.fingerprint,
                    operation: &claim.operation,
                    label: claim.label.as_deref(),
                    lease: claim.lease,
                    retention: claim.retention,
                    progress: &claim.progress,
                    take_over: claim.take_over,
                };
                self.compare(time, &said, |store| store.claim(&request), &mut differences);
                said
            })),
            Operation::Renew(renewals) => {
                let renewals = renewals.iter().enumerate();
                Reply::Renew(
                    renewals
                        .map(|(index, renewal)| {
                            spared(self, &renewal.owner.key, index)?;
                            let said = self.model.renew(renewal, time);
                            let one = std::slice::from_ref(renewal);
                            self.compare_one(
                                time,
                                &said,
                                |store| store.renew(one),
                                &mut differences,
                            );
                            Ok(said)
                        })
                        .collect(),
                )
            }
            Operation::SaveProgress(owner, offset, bytes) => {
                Reply::SaveProgress(spared(self, &owner.key, 0).map(|()| {
                    let said = self.model.save_progress(owner, *offset, bytes, time);
                    let save = |store| MemoryStore::save_progress(store, owner, *offset, bytes);
                    self.compare(time, &said, save, &mut differences);
                    said
                }))
            }
            Operation::Complete(owner, response, ttl) => {
                let size = response.body.as_ref().map_or(0, bytes::Bytes::len);
                Reply::Complete(if size > self.largest_response {
                    Err(error(StoreErrorKind::TooLarge))
                } else {
                    spared(self, &owner.key, 0).map(|()| {
                        let said = self.model.complete(owner, response, *ttl, time);
                        let complete = |store| MemoryStore::complete(store, owner, response, *ttl);
                        self.compare(time, &said, complete, &mut differences);
                        said
                    })
                })
            }
            Operation::Release(owners) | Operation::Abandon(owners) => {
                let is_release = matches!(operation, Operation::Release(_));
                let owners = owners.iter().enumerate();
                Reply::Release(
                    owners
                        .map(|(index, owner)| {
                            spared(self, &owner.key, index)?;
                            let said = match is_release {
                                true => self.model.release(owner, time),
                                false => self.model.abandon(owner, time),
                            };
                            let one = std::slice::from_ref(owner);
                            let end = |store| match is_release {
                                true => MemoryStore::release(store, one),
                                false => MemoryStore::abandon(store, one),
                            };
                            self.compare_one(time, &said, end, &mut differences);
                            Ok(said)
                        })
                        .collect(),
                )
            }
            Operation::GiveGrace(key, attempt, grace, retention) => {
                let times = (*grace, *retention);
                Reply::GiveGrace(spared(self, key, 0).map(|()| {
                    let said = self.model.give_grace(key, *attempt, times, time);
                    let give =
                        |store| MemoryStore::give_grace(store, key, *attempt, *grace, *retention);
                    self.compare(time, &said, give, &mut differences);
                    said
                }))
            }
            Operation::Get(key) => {
                let said = self.model.get(key, time);
                self.compare(time, &said, |store| store.get(key), &mut differences);
                Reply::Get(Ok(said))
            }
            Operation::Remove(key) => {
                let said = self.model.remove(key, time);
                self.compare(time, &said, |store| store.remove(key), &mut differences);
                Reply::Remove(Ok(said))
            }
            Operation::Purge(limit) => {
                let said = self.model.purge(*limit, time);
                if let Some(shadow) = &self.shadow {
                    shadow.clock.0.store(time, Ordering::Relaxed);
                    // It has freed some on the way already, so the two need not agree.
                    let _ = shadow.store.purge_expired(*limit).now_or_never();
                }
                Reply::Purge(Ok(said))
            }
        };
        (Executed::Reply(reply), differences.pop())
    }

    pub fn take_events(&mut self) -> Vec<StoreEvent> {
        std::mem::take(&mut self.model.events)
    }

    fn compare<'a, T, F>(
        &'a self,
        time: Millis,
        said: &T,
        call: impl FnOnce(&'a MemoryStore) -> F,
        differences: &mut Vec<String>,
    ) where
        T: std::fmt::Debug,
        F: Future<Output = Result<T, idempotent_runtime::store::StoreError>> + 'a,
    {
        let Some(shadow) = &self.shadow else { return };
        shadow.clock.0.store(time, Ordering::Relaxed);
        let memory = call(&shadow.store).now_or_never();
        match memory {
            Some(Ok(memory)) if is_same(&memory, said) => {}
            other => differences.push(format!(
                "the memory store says {other:?} instead of {said:?}"
            )),
        }
    }

    fn compare_one<'a, T, F>(
        &'a self,
        time: Millis,
        said: &T,
        call: impl FnOnce(&'a MemoryStore) -> F,
        differences: &mut Vec<String>,
    ) where
        T: std::fmt::Debug,
        F: Future<Output = Vec<Result<T, idempotent_runtime::store::StoreError>>> + 'a,
    {
        let one = |store| {
            let call = call(store);
            async move { call.await.pop().unwrap() }
        };
        self.compare(time, said, one, differences);
    }
}

/// Their descriptions hold what there is to compare: states, times, attempts, sizes.
fn is_same<T: std::fmt::Debug>(one: &T, other: &T) -> bool {
    use std::fmt::Write;
    let (mut first, mut second) = (String::new(), String::new());
    let _ = write!(first, "{one:?}");
    let _ = write!(second, "{other:?}");
    first == second
}
