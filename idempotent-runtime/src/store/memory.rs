//! Records in memory: for one process, for development, and for tests.
//!
//! # What it guarantees
//!
//! Every rule of [`Store`], for as long as the process lives. A restart loses all keys, and two processes do not see
//! each other's keys. A service with more than one instance, or one that must not charge twice after a crash, needs a
//! store outside the process.
//!
//! # Bounds
//!
//! The store holds at most [`max_records`](MemoryStoreBuilder::max_records) records and
//! [`max_bytes`](MemoryStoreBuilder::max_bytes) bytes. At a bound a **new** claim is refused
//! ([`StoreErrorKind::Full`](super::StoreErrorKind::Full), answered 503); a record that is alive is never dropped to
//! make room, because a dropped record is a second charge. Replays and completions continue.
//!
//! New claims free expired records, a few at a time, and [`purge_expired`](Store::purge_expired) does too; both find
//! them by their expiry and not by a scan. In both cases, an abandoned record that is freed is logged as an error.
//!
//! ```
//! use idempotent_runtime::Idempotency;
//! use idempotent_runtime::store::memory::MemoryStore;
//!
//! let store = MemoryStore::builder().max_records(100_000).max_bytes(256 * 1024 * 1024).build();
//! let idempotency = Idempotency::new(store);
//! # drop(idempotency);
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use self::entry::Entry;
use self::listing::page;
use self::moment::Moment;
use self::table::{NAME, Table};
use super::listing::foreign_cursor;
use super::{
    Claim, ClaimRequest, Completion, ListCursor, ListFilter, Listing, Progress, Purged, Release,
    Renewal, Renewed, Store, StoreError, Subscription,
};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind};
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::{CompactResponse, Owner, Record, StoredResponse};

mod entry;
mod expiry;
mod listing;
mod moment;
mod operations;
mod table;
#[cfg(test)]
mod tests;

/// Records in this process's memory. See the [module](self).
pub struct MemoryStore {
    table: Table,
    clock: Arc<dyn Clock>,
}

/// Settings of a [`MemoryStore`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct MemoryStoreBuilder {
    max_records: usize,
    max_bytes: usize,
    clock: Arc<dyn Clock>,
}

impl MemoryStore {
    /// A store with the default bounds.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// The store that the URL `memory:` names, with the default bounds.
    ///
    /// # Errors
    ///
    /// [`Error`] if the URL has more than its scheme.
    pub fn connect(url: &str) -> Result<Self, Error> {
        match url {
            "memory:" | "memory://" => Ok(Self::new()),
            _ => {
                let message = "the memory store takes nothing behind `memory:`";
                Err(Error::new(ErrorKind::InvalidUrl, message))
            }
        }
    }

    /// A store with other bounds.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder {
            max_records: 1_000_000,
            max_bytes: 1024 * 1024 * 1024,
            clock: Arc::new(SystemClock::default()),
        }
    }

    /// The number of records, including expired ones that are not freed yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The approximate size of the records in bytes, as [`max_bytes`](MemoryStoreBuilder::max_bytes) counts it.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.table.size_bytes()
    }

    fn now(&self) -> Moment {
        Moment::new(self.clock.now())
    }

    /// As [`Store::claim`], without waiting.
    pub(crate) fn claim_now(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        self.table.claim(request, self.now())
    }

    /// As [`Store::complete`], without waiting, of a response that is stored as it is.
    pub(crate) fn complete_now(
        &self,
        owner: &Owner,
        response: CompactResponse,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        self.table.check_size(response.size_bytes())?;
        let complete = |entry: &mut Entry| entry.complete(owner, response, ttl, self.now());
        let completion = self.table.change(&owner.key, complete);
        Ok(completion.unwrap_or(Completion::Lost))
    }

    /// The response to exactly this request, if it is completed.
    pub(crate) fn replay(
        &self,
        key: &RecordKey,
        fingerprint: &Fingerprint,
    ) -> Option<Arc<StoredResponse>> {
        let replay = |entry: &Entry| entry.replay(fingerprint, self.now());
        self.table.read(key, replay).flatten()
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        self.claim_now(request)
    }

    async fn renew(&self, renewals: &[Renewal]) -> Vec<Result<Renewed, StoreError>> {
        let now = self.now();
        let renew = |renewal: &Renewal| {
            let renew = |entry: &mut Entry| entry.renew(renewal, now);
            let is_renewed = self.table.change(&renewal.owner.key, renew);
            Ok(match is_renewed {
                Some(true) => Renewed::Renewed,
                Some(false) | None => Renewed::Lost,
            })
        };
        renewals.iter().map(renew).collect()
    }

    async fn save_progress(
        &self,
        owner: &Owner,
        offset: usize,
        bytes: &Bytes,
    ) -> Result<Progress, StoreError> {
        self.table.check_size(offset.saturating_add(bytes.len()))?;
        let save = |entry: &mut Entry| entry.save_progress(owner, offset, bytes, self.now());
        let saved = self.table.change(&owner.key, save);
        Ok(saved.unwrap_or(Progress::Lost))
    }

    async fn complete(
        &self,
        owner: &Owner,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Completion, StoreError> {
        self.complete_now(owner, (&**response).into(), ttl)
    }

    async fn release(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        let now = self.now();
        let release = |owner: &Owner| {
            let released = self
                .table
                .remove_if(&owner.key, |entry| entry.is_held_by(owner, now));
            Ok(match released {
                Some(_) => Release::Released,
                None => Release::Lost,
            })
        };
        owners.iter().map(release).collect()
    }

    async fn abandon(&self, owners: &[Owner]) -> Vec<Result<Release, StoreError>> {
        let now = self.now();
        let abandon = |owner: &Owner| {
            let abandon = |entry: &mut Entry| entry.abandon(owner, now);
            Ok(match self.table.change(&owner.key, abandon) {
                Some(true) => Release::Released,
                Some(false) | None => Release::Lost,
            })
        };
        owners.iter().map(abandon).collect()
    }

    async fn give_grace(
        &self,
        key: &RecordKey,
        attempt: u32,
        grace: Duration,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        let give = |entry: &mut Entry| entry.give_grace(attempt, grace, retention, now);
        Ok(self.table.change(key, give).unwrap_or(false))
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        let now = self.now();
        Ok(self.table.read(key, |entry| entry.record(now)).flatten())
    }

    async fn remove(&self, key: &RecordKey) -> Result<bool, StoreError> {
        let now = self.now();
        let removed = self.table.remove_if(key, |_| true);
        Ok(removed.is_some_and(|entry| !entry.is_expired(now)))
    }

    async fn purge_expired(&self, limit: usize) -> Result<Purged, StoreError> {
        let mut purged = Purged::default();
        self.table.sweep(self.now(), limit, &mut purged);
        Ok(purged)
    }

    async fn list(
        &self,
        filter: &ListFilter,
        cursor: Option<&ListCursor>,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        let after = match cursor {
            Some(cursor) => Some(cursor.key().ok_or_else(|| foreign_cursor(NAME))?),
            None => None,
        };
        Ok(page(&self.table, self.now(), filter, after, limit))
    }

    fn subscribe(&self, key: &RecordKey) -> Subscription {
        match self.table.change(key, Entry::changed).flatten() {
            Some(changed) => Subscription::reliable(changed),
            // No attempt is running: there is something new to see at once.
            None => Subscription::reliable(std::future::ready(())),
        }
    }
}

impl MemoryStoreBuilder {
    /// The most records in the store. Default 1,000,000.
    pub fn max_records(mut self, records: usize) -> Self {
        self.max_records = records;
        self
    }

    /// The most bytes that records may occupy, approximately. Default 1 GiB.
    ///
    /// The bound is checked at a claim, when the size of the response is not known yet: with `n` handlers running, the
    /// store can exceed the bound by `n` responses, and by the progress of `n` attempts with steps. A response that
    /// alone exceeds the bound is refused ([`StoreErrorKind::TooLarge`](super::StoreErrorKind::TooLarge)), and a
    /// tombstone is stored.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The clock, for tests. Default [`SystemClock`].
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Makes the store.
    #[must_use]
    pub fn build(self) -> MemoryStore {
        MemoryStore {
            table: Table::new(self.max_records, self.max_bytes),
            clock: self.clock,
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("records", &self.len())
            .field("bytes", &self.size_bytes())
            .finish_non_exhaustive()
    }
}
