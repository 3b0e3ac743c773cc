//! The numbers of the overview: how many records, of which operation and state, and how old.
//!
//! A store can list and cannot count, so records are counted as they are listed, and the counting is bounded: in
//! pages for each state, and in time. What a bound cut off, or the store did not answer, is "at least" so many.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::words::STATES;
use crate::store::{ListFilter, ListedRecord, RecordStatus};
use crate::{Error, Idempotency};

/// The upper bounds of the age buckets, in seconds; what is older is in one more.
pub(super) const BOUNDS_SECS: [u64; 9] =
    [1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800, 2_592_000];

pub(super) const BUCKETS: usize = BOUNDS_SECS.len() + 1;

/// The most records of a page.
const PAGE: usize = 1_000;

/// The most pages for a state. There are few records that are not completed, and an operator is here for them.
const fn most_pages(state: RecordStatus) -> usize {
    match state {
        RecordStatus::Abandoned => 25,
        RecordStatus::InFlight => 10,
        RecordStatus::Completed => 5,
    }
}

/// For all pages: one that has not come by then is not waited for.
const MOST_TIME: Duration = Duration::from_secs(2);

/// The most operations that are counted apart. An application has as many as it has routes; the rest is counted in
/// the totals alone.
const MOST_OPERATIONS: usize = 200;

/// The records of one state.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) count: usize,
    /// Whether a bound stopped the count.
    pub(super) is_partial: bool,
    pub(super) oldest: Duration,
    pub(super) by_age: [usize; BUCKETS],
}

/// One tally for each of [`STATES`].
pub(super) type Tallies = [Tally; STATES.len()];

#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) totals: Tallies,
    pub(super) operations: BTreeMap<Arc<str>, Tallies>,
    /// Whether there are more operations than are counted apart.
    pub(super) has_more_operations: bool,
    /// Whether the store has answered for a page.
    is_answered: bool,
}

impl Survey {
    /// # Errors
    ///
    /// If the store answered for not one page.
    pub(super) async fn take(idempotency: &Idempotency) -> Result<Self, Failure> {
        let ends = Instant::now() + MOST_TIME;
        let mut survey = Self::default();
        let mut last = None;
        for (at, state) in STATES.into_iter().enumerate() {
            match survey.count(idempotency, at, state, ends).await {
                Ok(true) => {}
                Ok(false) => survey.mark_partial(at),
                Err(error) => {
                    tracing::warn!(?error, ?state, "records could not be counted");
                    survey.mark_partial(at);
                    last = Some(error);
                }
            }
        }
        match (survey.is_answered, last) {
            (true, _) => Ok(survey),
            (false, Some(error)) => Err(Failure::of_store(&error, "")),
            (false, None) => Err(Failure::no_answer(MOST_TIME)),
        }
    }

    /// Counts the records of a state, and says whether these are all.
    async fn count(
        &mut self,
        idempotency: &Idempotency,
        at: usize,
        state: RecordStatus,
        ends: Instant,
    ) -> Result<bool, Error> {
        let filter = ListFilter::new().status(state);
        let mut next = None;
        for _ in 0..most_pages(state) {
            let listing = idempotency.list(&filter, next.as_ref(), PAGE);
            let Ok(page) = timeout_at(ends, listing).await else {
                return Ok(false);
            };
            let page = page?;
            self.is_answered = true;
            page.records.iter().for_each(|record| self.add(at, record));
            next = page.next;
            if next.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn add(&mut self, at: usize, record: &ListedRecord) {
        let is_full = self.operations.len() >= MOST_OPERATIONS;
        let own = if is_full && !self.operations.contains_key(&record.operation) {
            self.has_more_operations = true;
            None
        } else {
            let operation = Arc::clone(&record.operation);
            self.operations.entry(operation).or_default().get_mut(at)
        };
        for tally in self.totals.get_mut(at).into_iter().chain(own) {
            tally.add(record.age);
        }
    }

    fn mark_partial(&mut self, at: usize) {
        let own = self.operations.values_mut();
        for tallies in own.chain([&mut self.totals]) {
            if let Some(tally) = tallies.get_mut(at) {
                tally.is_partial = true;
            }
        }
    }
}

impl Tally {
    fn add(&mut self, age: Duration) {
        self.count += 1;
        self.oldest = self.oldest.max(age);
        let bounds = BOUNDS_SECS.map(Duration::from_secs);
        let bucket = bounds.iter().position(|bound| age < *bound);
        if let Some(count) = self.by_age.get_mut(bucket.unwrap_or(BOUNDS_SECS.len())) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_fall_into_their_buckets() {
        let mut tally = Tally::default();
        for secs in [0, 1, 9, 10, 2_591_999, 2_592_000, u64::MAX] {
            tally.add(Duration::from_secs(secs));
        }
        assert_eq!(tally.by_age, [1, 2, 1, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(tally.oldest, Duration::from_secs(u64::MAX));
    }
}
