//! Looking out for abandoned records, from any process: a process that crashes reports nothing, and its client may never retry.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::calls::Calls;
use super::periodic::Rounds;
use crate::key::RecordKey;
use crate::observer::{Event, Observers};
use crate::store::{ListFilter, ListedRecord, RecordStatus, StoreError, StoreErrorKind};

/// How many records a page has.
const PAGE: usize = 1000;

/// The most records that are remembered, so that each is told of once.
const MOST_KNOWN: usize = 100_000;

/// The most warnings of one look. One more says how many there were.
const MOST_WARNINGS: usize = 20;

/// A look takes at most this part of the time, whatever the period is: some stores have no index for it.
const SHARE: u32 = 100;

/// The most operations that are counted apart; what is over it is counted as this.
const MOST_OPERATIONS: usize = 256;
const OTHER: &str = "(other)";

/// The longest pause after a look that has failed.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// Ends with a shutdown, with the last handle on the store, or where the store cannot list.
pub(super) async fn look_out(rounds: Rounds) {
    let mut last = Look::default();
    let (mut pause, mut backoff) = (Duration::ZERO, rounds.every);
    while let Some(calls) = rounds.next(pause).await {
        let begun = Instant::now();
        match look(&calls, &last).await {
            Ok(look) => {
                look.tell(&last, calls.observers());
                last = look;
                backoff = rounds.every;
                pause = rounds.every.max(begun.elapsed() * SHARE);
            }
            Err(error) if error.kind() == StoreErrorKind::Unsupported => {
                tracing::warn!(
                    "this store cannot list its records: abandoned ones are not counted"
                );
                return rounds.are_the_last();
            }
            // After an outage it is time to look: a call that hung says nothing about the cost of a look.
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "could not look for abandoned records"
                );
                pause = backoff;
                backoff = (backoff * 2).min(LONGEST_BACKOFF.max(rounds.every));
            }
        }
    }
}

/// What one look has found: counts, and as many keys as are remembered.
#[derive(Default)]
struct Look {
    keys: HashSet<RecordKey>,
    operations: BTreeMap<Arc<str>, usize>,
    /// Those that the look before has not found.
    new: Vec<ListedRecord>,
    more_new: usize,
}

async fn look(calls: &Calls, last: &Look) -> Result<Look, StoreError> {
    let filter = ListFilter::new().status(RecordStatus::Abandoned);
    let (mut look, mut next) = (Look::default(), None);
    loop {
        let page = calls.list(&filter, next.as_ref(), PAGE).await?;
        for record in page.records {
            look.add(record, last);
        }
        next = page.next;
        if next.is_none() {
            return Ok(look);
        }
    }
}

impl Look {
    fn add(&mut self, record: ListedRecord, last: &Self) {
        if self.keys.contains(&record.key) {
            // A scan may come upon a record twice.
            return;
        }
        let is_counted = self.operations.contains_key(&record.operation);
        let operation = if is_counted || self.operations.len() < MOST_OPERATIONS {
            Arc::clone(&record.operation)
        } else {
            OTHER.into()
        };
        *self.operations.entry(operation).or_default() += 1;
        if self.keys.len() == MOST_KNOWN {
            return;
        }
        self.keys.insert(record.key);
        // Where not all are remembered, it is not known which are new.
        if last.keys.contains(&record.key) || last.keys.len() == MOST_KNOWN {
            return;
        }
        if self.new.len() < MOST_WARNINGS {
            self.new.push(record);
        } else {
            self.more_new += 1;
        }
    }

    fn tell(&self, last: &Self, observers: &Observers) {
        for record in &self.new {
            tracing::warn!(record = %record.key, operation = &*record.operation, label = record.label.as_deref(),
                attempt = record.attempt, age_secs = record.age.as_secs(),
                "a key is abandoned: whether its request took effect is unknown, and an operator has to decide (`idempotent list --state abandoned`)");
        }
        if self.more_new > 0 {
            tracing::warn!(more = self.more_new, "more keys are abandoned");
        }
        let gone = last.operations.keys();
        let gone = gone.filter(|operation| !self.operations.contains_key(*operation));
        let none = gone.map(|operation| (operation, 0));
        let counts = self.operations.iter();
        for (operation, records) in counts.map(|(it, records)| (it, *records)).chain(none) {
            observers.tell(|| Event::AbandonedRecords { operation, records });
        }
    }
}
