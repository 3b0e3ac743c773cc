//! Reading a record for all callers that ask for it at the same time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::Cache;
use super::shard::{Completed, Lead, Outcome};
use crate::key::RecordKey;
use crate::record::{CompactResponse, Record, RecordState};
use crate::store::{Store, StoreError, StoreErrorKind};

/// How long to wait for a store when there is an older answer.
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
            let number = self.lead.number;
            let retry_at = self.cache.clock.now().saturating_add(PAUSE);
            self.cache.with_shard(self.key, |shard| {
                if shard.land(self.key, number) {
                    shard.put_off(self.key, retry_at);
                }
            });
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
    let read = within(reader.lead.is_cached, store.get(key)).await;
    let read = read.unwrap_or_else(|| Err(StoreError::new(store.name(), StoreErrorKind::TimedOut)));
    reader.has_read(read)
}

/// Waits for what another caller reads; `None` when that one has given up.
pub(super) async fn follow(
    store: &impl Store,
    mut outcome: watch::Receiver<Option<Outcome>>,
    is_cached: bool,
) -> Option<Outcome> {
    match within(is_cached, outcome.wait_for(Option::is_some)).await {
        Some(Ok(outcome)) => outcome.clone(),
        Some(Err(_)) => None,
        None => Some(Err(StoreError::new(store.name(), StoreErrorKind::TimedOut))),
    }
}

/// What a call comes to; `None` when it takes too long, and there is an older answer.
async fn within<T>(is_cached: bool, call: impl Future<Output = T>) -> Option<T> {
    if is_cached {
        timeout(PATIENCE, call).await.ok()
    } else {
        Some(call.await)
    }
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
