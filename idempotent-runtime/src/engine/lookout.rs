//! Looking out for abandoned records, of whichever process: a crash tells nobody, and its client may never retry.

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

/// Ends with a shutdown, with the last handle on the store, or where the store cannot list.
pub(super) async fn look_out(rounds: Rounds) {
    let mut seen = Seen::default();
    let mut pause = Duration::ZERO;
    while let Some(calls) = rounds.next(pause).await {
        let begun = Instant::now();
        match abandoned(&calls).await {
            Ok(found) => seen.report(&found, calls.observers()),
            Err(error) if error.kind() == StoreErrorKind::Unsupported => {
                tracing::warn!(
                    "this store cannot list its records: abandoned ones are not counted"
                );
                return rounds.are_the_last();
            }
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "could not look for abandoned records"
            ),
        }
        pause = rounds.every.max(begun.elapsed() * SHARE);
    }
}

async fn abandoned(calls: &Calls) -> Result<Vec<ListedRecord>, StoreError> {
    let filter = ListFilter::new().status(RecordStatus::Abandoned);
    let (mut found, mut next) = (Vec::new(), None);
    loop {
        let page = calls.list(&filter, next.as_ref(), PAGE).await?;
        found.extend(page.records);
        next = page.next;
        if next.is_none() {
            return Ok(found);
        }
    }
}

/// What the look before has found.
#[derive(Default)]
struct Seen {
    records: HashSet<RecordKey>,
    operations: BTreeMap<Arc<str>, usize>,
}

impl Seen {
    fn report(&mut self, found: &[ListedRecord], observers: &Observers) {
        let is_new = |record: &&ListedRecord| !self.records.contains(&record.key);
        let new: Vec<_> = found.iter().take(MOST_KNOWN).filter(is_new).collect();
        for record in new.iter().take(MOST_WARNINGS) {
            tracing::warn!(record = %record.key, operation = &*record.operation, label = record.label.as_deref(),
                attempt = record.attempt, age_secs = record.age.as_secs(),
                "a key is abandoned: whether its request took effect is unknown, and an operator has to decide");
        }
        if new.len() > MOST_WARNINGS {
            tracing::warn!(more = new.len() - MOST_WARNINGS, "more keys are abandoned");
        }
        self.records = found.iter().take(MOST_KNOWN).map(|it| it.key).collect();
        // Those of the look before, to say that there are none left.
        self.operations.retain(|_, records| *records > 0);
        self.operations
            .values_mut()
            .for_each(|records| *records = 0);
        for record in found {
            *self
                .operations
                .entry(Arc::clone(&record.operation))
                .or_default() += 1;
        }
        for (operation, records) in &self.operations {
            observers.tell(|| Event::AbandonedRecords {
                operation,
                records: *records,
            });
        }
    }
}
