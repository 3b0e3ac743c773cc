//! A store that is right in as few lines as will do, and wrong in one way at a time.
//!
//! It keeps its rows in a map under one lock. Without a [`Fault`] it passes the kit, so that what
//! the kit finds with one is that fault.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use idempotent_runtime::store::{
    Acquired, Claim, ClaimRequest, Completion, ListCursor, ListFilter, ListedRecord, Listing,
    Progress, Purged, PurgedClaim, RecordStatus, Release, Renewal, Renewed, Store, StoreError,
    StoreErrorKind, Subscription, Transactor,
};
use idempotent_runtime::{
    Clock, ManualClock, Owner, Record, RecordKey, RecordState, StoredResponse,
};
use tokio::sync::Notify;

use self::connections::Connections;
use self::locks::Locks;
use self::row::Row;

mod batch;
mod connections;
mod fault;
mod locks;
mod row;

pub(crate) use fault::{FAULTS, Fault};

#[derive(Debug)]
pub(crate) struct MutexStore {
    clock: Arc<ManualClock>,
    fault: Option<Fault>,
    rows: Mutex<HashMap<[u8; 32], Row>>,
    /// What a table apart would have kept of records that are gone.
    left_over: Mutex<HashMap<[u8; 32], Bytes>>,
    changed: Arc<Notify>,
    connections: Connections,
    locks: Locks,
}

type Rows<'a> = MutexGuard<'a, HashMap<[u8; 32], Row>>;

fn listed(key: RecordKey, record: Record) -> ListedRecord {
    let (status, lease_left) = match record.state {
        RecordState::Running { lease_left } => (RecordStatus::InFlight, lease_left),
        RecordState::Abandoned => (RecordStatus::Abandoned, Duration::ZERO),
        _ => (RecordStatus::Completed, Duration::ZERO),
    };
    let mut listed = ListedRecord::new(key, status, record.operation);
    listed.label = record.label;
    listed.attempt = record.attempt;
    listed.age = record.age;
    listed.lease_left = lease_left;
    listed.expires_in = record.expires_in;
    listed.size_bytes = match record.state {
        RecordState::Completed(response) => response.encode().len() as u64,
        _ => record.progress.len() as u64,
    };
    listed
}

/// What a claim comes to: an answer, and the row that has to be written for it.
enum Decision {
    Answer(Claim),
    Write(Row),
}

impl Decision {
    fn carry_out(self, rows: &mut Rows<'_>, index: [u8; 32], now: Duration) -> Claim {
        match self {
            Self::Answer(claim) => claim,
            Self::Write(row) => {
                let claim = Claim::Acquired(Acquired {
                    attempt: row.attempt,
                    age: row.age(now),
                });
                rows.insert(index, row);
                claim
            }
        }
    }
}

impl MutexStore {
    pub(crate) fn new(clock: Arc<ManualClock>, fault: Option<Fault>) -> Self {
        Self {
            clock,
            fault,
            rows: Mutex::default(),
            left_over: Mutex::default(),
            changed: Arc::default(),
            connections: Connections::default(),
            locks: Locks::default(),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn lock(&self) -> Result<Rows<'_>, StoreError> {
        if self.has(Fault::Unavailable) {
            let error = StoreError::new("mutex", StoreErrorKind::Unavailable);
            return Err(error.with_source("unplugged"));
        }
        Ok(self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn index(&self, key: &RecordKey) -> [u8; 32] {
        let mut index = *key.as_bytes();
        if self.has(Fault::KeyWithoutItsLastByte) {
            index[31] = 0;
        }
        if self.has(Fault::KeyWithoutCase) {
            index.make_ascii_lowercase();
        }
        index
    }

    fn is_live(&self, row: &Row, now: Duration) -> bool {
        let running = row.response.is_none();
        let lease_is_over = running && self.has(Fault::LeaseIsTheTtl) && row.lease_until <= now;
        self.has(Fault::ExpiredIsStillThere) || (row.expires_at > now && !lease_is_over)
    }

    /// Whether this owner may end the row's claim or renew it, by a rule that `unfenced` suspends.
    fn is_held(&self, row: &Row, owner: &Owner, unfenced: Fault) -> bool {
        self.is_live(row, self.clock.now())
            && row.response.is_none()
            && (row.is_owned_by(owner, self.fault) || self.has(unfenced))
    }

    fn decide(&self, row: Option<&Row>, request: &ClaimRequest<'_>, now: Duration) -> Decision {
        let Some(row) = row.filter(|row| self.is_live(row, now)) else {
            return Decision::Write(self.first_row(row, request, now));
        };
        let late = self.has(Fault::StateBeforeFingerprint);
        if !late && row.fingerprint_differs(&request.fingerprint, self.fault) {
            return Decision::Answer(Claim::Mismatch);
        }
        row.decide(request, now, self.fault)
    }

    fn first_row(&self, old: Option<&Row>, request: &ClaimRequest<'_>, now: Duration) -> Row {
        let mut row = Row::first(request, now, self.fault);
        match (self.fault, old) {
            (Some(Fault::ExpiredKeyGoesOn), Some(old)) => row.attempt = old.attempt + 1,
            (Some(Fault::FirstClaimTakesTheAttempt), _) => {
                row.attempt = request.take_over.map_or(1, |attempt| attempt + 1);
            }
            (Some(Fault::LeaseIsAsLongAsTheTtl), _) => row.lease_until = row.expires_at,
            (Some(Fault::ExpiredKeyKeepsTheProgress), Some(old)) => {
                row.progress = old.progress.clone();
            }
            (Some(Fault::ProgressOutlivesItsRecord), _) => {
                row.progress = self.left_over(&self.index(&request.owner.key));
            }
            _ => {}
        }
        row
    }

    fn left_over(&self, index: &[u8; 32]) -> Bytes {
        let left_over = self.left_over.lock();
        let left_over = left_over.unwrap_or_else(PoisonError::into_inner);
        left_over.get(index).cloned().unwrap_or_default()
    }

    /// What a row that is gone would leave behind.
    fn forget(&self, index: [u8; 32], row: &Row) {
        let left_over = self.left_over.lock();
        let mut left_over = left_over.unwrap_or_else(PoisonError::into_inner);
        left_over.insert(index, row.progress.clone());
    }

    /// What saving progress comes to: an answer, and the row that has to be written for it.
    fn save(
        &self,
        row: Option<&Row>,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> (Progress, Option<Row>) {
        let now = self.clock.now();
        if self.has(Fault::StrangerIsBehind)
            && let Some(row) = row
            && offset > row.progress.len()
        {
            let stored_bytes = row.progress.len();
            return (Progress::Behind { stored_bytes }, None);
        }
        match row {
            None if self.has(Fault::AbsentTakesProgress) => (Progress::Saved, None),
            Some(row) if self.takes_progress(row, owner, now) => {
                row.saved(offset, bytes, now, self.fault)
            }
            _ => (Progress::Lost, None),
        }
    }

    fn takes_progress(&self, row: &Row, owner: &Owner, now: Duration) -> bool {
        let is_running = row.response.is_none() || self.has(Fault::CompletedTakesProgress);
        let is_owned = row.is_owned_by(owner, self.fault) || self.has(Fault::UnfencedProgress);
        let is_late = self.has(Fault::ProgressNeedsALease) && row.lease_until <= now;
        self.is_live(row, now) && is_running && is_owned && !is_late
    }

    /// The operation of a row that a purge names.
    fn named(&self, row: &Row) -> Option<Arc<str>> {
        match self.fault {
            Some(Fault::PurgeNamesNobody) => None,
            Some(Fault::PurgeNamesTheCompleted) => Some(Arc::clone(row.operation())),
            Some(Fault::PurgeForgetsTheOperation) => row.uncompleted().map(|_| "".into()),
            _ => row.uncompleted().cloned(),
        }
    }

    fn wake(&self) {
        if !self.has(Fault::NobodyIsWoken) {
            self.changed.notify_waiters();
        }
    }
}

#[async_trait]
impl Store for MutexStore {
    fn name(&self) -> &'static str {
        "mutex"
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        self.connect().await;
        let now = self.clock.now();
        let index = self.index(&request.owner.key);
        if self.has(Fault::GivenUpClaimIsHalfDone) {
            let is_new = {
                let mut rows = self.lock()?;
                let decision = self.decide(rows.get(&index), request, now);
                let is_new = matches!(decision, Decision::Write(_));
                decision.carry_out(&mut rows, index, now);
                if is_new {
                    rows.entry(index).and_modify(|row| row.give_token(None));
                }
                is_new
            };
            tokio::task::yield_now().await;
            if is_new {
                let token = Some(request.owner.token);
                let mut rows = self.lock()?;
                rows.entry(index).and_modify(|row| row.give_token(token));
            }
        }
        if self.has(Fault::GetThenSet) {
            let decision = self.decide(self.lock()?.get(&index), request, now);
            tokio::task::yield_now().await;
            return Ok(decision.carry_out(&mut self.lock()?, index, now));
        }
        let mut rows = self.lock()?;
        let decision = self.decide(rows.get(&index), request, now);
        Ok(decision.carry_out(&mut rows, index, now))
    }

    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        self.connect().await;
        self.renew_all(renewals).await
    }

    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        self.connect().await;
        let index = self.index(&owner.key);
        if self.has(Fault::ProgressIsGetThenSet) {
            let (answer, row) = self.save(self.lock()?.get(&index), owner, offset, bytes);
            tokio::task::yield_now().await;
            self.lock()?.extend(row.map(|row| (index, row)));
            return Ok(answer);
        }
        let mut rows = self.lock()?;
        let (answer, row) = self.save(rows.get(&index), owner, offset, bytes);
        rows.extend(row.map(|row| (index, row)));
        Ok(answer)
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        self.connect().await;
        if let Some(answer) = self.when_locked(&owner.key).await {
            return answer.map(|()| Completion::Lost);
        }
        let now = self.clock.now();
        if self.has(Fault::GivenUpCompletionIsHalfDone) {
            self.half_done(owner).await?;
        }
        let mut rows = self.lock()?;
        let row = rows
            .get_mut(&self.index(&owner.key))
            .filter(|row| self.is_live(row, now));
        let Some(row) = row else {
            return Ok(Completion::Lost);
        };
        if !row.is_owned_by(owner, self.fault) && !self.has(Fault::UnfencedCompletion) {
            return Ok(Completion::Lost);
        }
        let completion = row.complete(response, ttl, now, self.fault);
        self.wake();
        Ok(completion)
    }

    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.connect().await;
        self.release_all(owners).await
    }

    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        self.connect().await;
        self.abandon_all(owners).await
    }

    async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        self.connect().await;
        let now = self.clock.now();
        let index = self.index(key);
        let mut rows = self.lock()?;
        let row = rows.get_mut(&index).filter(|row| self.is_live(row, now));
        Ok(row.is_some_and(|row| row.give_grace(attempt, (grace, retention), now, self.fault)))
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.connect().await;
        let now = self.clock.now();
        let mut rows = self.lock()?;
        let row = rows
            .get_mut(&self.index(key))
            .filter(|row| self.is_live(row, now));
        Ok(row.map(|row| {
            let record = row.record(now);
            if self.has(Fault::ReadingProlongs) {
                row.expires_at += Duration::from_secs(1);
            }
            record
        }))
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        self.connect().await;
        let now = self.clock.now();
        let index = self.index(key);
        let mut rows = self.lock()?;
        if self.has(Fault::CompletedIsNotRemoved)
            && rows.get(&index).is_some_and(|row| row.response.is_some())
        {
            return Ok(false);
        }
        Ok(rows.remove(&index).is_some_and(|row| {
            self.forget(index, &row);
            self.is_live(&row, now)
        }))
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        self.connect().await;
        let now = self.clock.now();
        let mut rows = self.lock()?;
        let is_due = |row: &Row| {
            row.expires_at <= now || self.has(Fault::PurgeTakesAbandoned) && row.lease_until <= now
        };
        let limit = if self.has(Fault::PurgeHasNoLimit) {
            usize::MAX
        } else {
            limit
        };
        let due = rows.iter().filter(|(_, row)| is_due(row));
        let due: Vec<_> = due.map(|(key, _)| *key).take(limit).collect();
        let mut purged = Purged::default();
        for key in due {
            let row = rows.remove(&key);
            purged.records += 1;
            let named = row.and_then(|row| self.named(&row));
            purged.abandoned.extend(named.map(|operation| PurgedClaim {
                key: RecordKey::from_bytes(key),
                operation,
            }));
        }
        Ok(purged)
    }

    async fn list(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        self.connect().await;
        let now = self.clock.now();
        let mut filter = filter.clone();
        if self.has(Fault::ListingIgnoresTheState) {
            filter.status = None;
        }
        let after = cursor.map_or(&[][..], ListCursor::as_bytes);
        let rows = self.lock()?;
        let live = rows
            .iter()
            .filter(|(key, row)| key[..] > *after && self.is_live(row, now));
        let mut records: Vec<_> = live
            .map(|(key, row)| listed(RecordKey::from_bytes(*key), row.record(now)))
            .filter(|record| filter.matches(record))
            .collect();
        if self.has(Fault::ListingCountsNothing) || !filter.sizes {
            records.iter_mut().for_each(|record| record.size_bytes = 0);
        }
        records.sort_unstable_by_key(|record| record.key);
        let has_more = records.len() > limit && !self.has(Fault::ListingHasOnePage);
        records.truncate(limit);
        let next = records.last().filter(|_| has_more);
        let next = next.map(|record| record.key.into());
        Ok(Listing::new(records, next))
    }

    fn subscribe(&self, _: &RecordKey) -> Subscription {
        let changed = Arc::clone(&self.changed);
        if self.has(Fault::SubscriptionBeginsLate) {
            return Subscription::reliable(async move { changed.notified().await });
        }
        Subscription::reliable(changed.notified_owned())
    }

    fn transactor(&self) -> Option<Transactor> {
        None
    }
}
