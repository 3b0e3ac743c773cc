//! Reading a record for all callers that ask for it at the same time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Cache;
use super::shard::{Completed, Flight, Lead, Outcome};
use crate::key::RecordKey;
use crate::record::{CompactResponse, Record, RecordState};
use crate::store::{Store, StoreError, StoreErrorKind};

/// How long to wait for a store when there is an older answer, and for another caller that reads: its runtime may
/// stand still, or not be driven any more.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a store that could not be read is not asked again for a key that there is an answer of.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// The caller that reads. Dropped half-way, it leaves the key to the next waiter.
struct Reader<'a> {
    cache: &'a Cache,
    key: &'a RecordKey,
    asked_at: Duration,
    lead: Lead,
    is_done: bool,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            give_up(self.cache, self.key, self.lead.number);
        }
    }
}

/// Reads the record, keeps it if it is completed, and tells all who follow.
pub(super) async fn lead(
    cache: &Cache,
    store: &impl Store,
    key: &RecordKey,
    lead: Lead,
) -> Outcome {
    let mut reader = Reader {
        cache,
        key,
        // Before the question, so that what the store says of the record's life is counted from no
        // later than when it said so.
        asked_at: cache.clock.now(),
        lead,
        is_done: false,
    };
    let read = match reader.lead.is_cached {
        true => timeout(PATIENCE, store.get(key)).await.ok(),
        false => Some(store.get(key).await),
    };
    let read = read.unwrap_or_else(|| Err(timed_out(store)));
    reader.has_read(read)
}

/// Waits for what another caller reads; `None` when that one has given up or takes too long, and this one is to look
/// again.
pub(super) async fn follow(
    cache: &Cache,
    store: &impl Store,
    key: &RecordKey,
    mut flight: Flight,
    is_cached: bool,
) -> Option<Outcome> {
    match timeout(PATIENCE, flight.outcome.wait_for(Option::is_some)).await {
        Ok(Ok(outcome)) => outcome.clone(),
        Ok(Err(_)) => None,
        Err(_) => {
            // The first that looks again reads, and the others follow that one.
            give_up(cache, key, flight.number);
            is_cached.then(|| Err(timed_out(store)))
        }
    }
}

/// Leaves a key that was not read in time to the next caller; an older answer is shown for a while first.
fn give_up(cache: &Cache, key: &RecordKey, number: u64) {
    let retry_at = cache.clock.now().saturating_add(PAUSE);
    cache.with_shard(key, |shard| {
        if shard.land(key, number) {
            shard.put_off(key, retry_at);
        }
    });
}

fn timed_out(store: &impl Store) -> StoreError {
    StoreError::new(store.name(), StoreErrorKind::TimedOut)
}

impl Reader<'_> {
    fn has_read(&mut self, read: Result<Option<Record>, StoreError>) -> Outcome {
        let outcome = read.map(|record| self.completed(record?));
        let (key, number) = (self.key, self.lead.number);
        let retry_at = self.cache.clock.now().saturating_add(PAUSE);
        self.cache.with_shard(key, |shard| {
            // After a removal it may be what is gone.
            if !shard.land(key, number) {
                return;
            }
            match &outcome {
                Ok(Some(record)) => shard.keep(*key, record.clone()),
                Err(error) if !error.is_about_item() => shard.put_off(key, retry_at),
                Ok(None) | Err(_) => shard.forget(key),
            }
        });
        self.is_done = true;
        self.lead.outcome.send_replace(Some(outcome.clone()));
        outcome
    }

    fn completed(&self, record: Record) -> Option<Completed> {
        let RecordState::Completed(response) = record.state else {
            return None;
        };
        let max_age = self.cache.max_age.min(record.expires_in);
        Some(Completed {
            fingerprint: record.fingerprint,
            response: Arc::new(CompactResponse::from(&*response)),
            fresh_until: self.asked_at.saturating_add(max_age),
            expires_at: self.asked_at.saturating_add(record.expires_in),
        })
    }
}
