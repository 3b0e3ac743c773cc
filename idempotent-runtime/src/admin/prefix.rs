//! A record by the first digits of its key, as a log line has them: it is looked for in the whole store.

use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use crate::store::ListFilter;
use crate::{Error, Idempotency, RecordKey};

/// Fewer digits than that are a guess.
const LEAST_DIGITS: usize = 4;

/// For all pages: a store is not read for longer to answer one request.
const MOST_TIME: Duration = Duration::from_secs(5);

/// The most records of a page.
const PAGE: usize = 1_000;

/// How many of several records are named.
const MOST_NAMED: usize = 5;

/// The first digits of a record key.
#[derive(Debug)]
pub(super) struct Prefix(String);

impl Prefix {
    /// `None` for a whole key too.
    pub(super) fn read(text: &str) -> Option<Self> {
        let is_prefix = (LEAST_DIGITS..64).contains(&text.len())
            && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_prefix.then(|| Self(text.to_ascii_lowercase()))
    }

    pub(super) fn digits(&self) -> &str {
        &self.0
    }

    /// The only record whose key begins so.
    ///
    /// # Errors
    ///
    /// If there is none, or more than one, or the store is too large to find that out.
    pub(super) async fn only(&self, idempotency: &Idempotency) -> Result<RecordKey, Failure> {
        let ends = Instant::now() + MOST_TIME;
        let Ok(found) = timeout_at(ends, self.all(idempotency)).await else {
            return Err(self.none(
                StatusCode::SERVICE_UNAVAILABLE,
                "Not found in time",
                "The store has too many records to look for these digits among all of them.",
            ));
        };
        let found = found.map_err(|error| Failure::of_store(&error, ""))?;
        match found.as_slice() {
            [key] => Ok(*key),
            [] => Err(self.none(
                StatusCode::NOT_FOUND,
                "No such record",
                "No record of this store has a key that begins so.",
            )),
            several => {
                let keys = several.iter().take(MOST_NAMED).map(RecordKey::to_hex);
                let keys = keys.collect::<Vec<_>>().join(", ");
                let what = format!("{} records have keys that begin so: {keys}.", several.len());
                Err(self.none(StatusCode::NOT_FOUND, "More than one record", &what))
            }
        }
    }

    /// Each key once: Redis may list one again while its table is resized.
    async fn all(&self, idempotency: &Idempotency) -> Result<Vec<RecordKey>, Error> {
        let (any, mut found, mut next) = (ListFilter::new(), Vec::new(), None);
        loop {
            let page = idempotency.list(&any, next.as_ref(), PAGE).await?;
            for record in &page.records {
                if record.key.to_hex().starts_with(&self.0) && !found.contains(&record.key) {
                    found.push(record.key);
                }
            }
            next = page.next;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    fn none(&self, status: StatusCode, title: &'static str, what: &str) -> Failure {
        let detail = format!(
            "{what} A record is found by all 64 digits of its key, in the list by its operation, label and age, or by the \
             client's key."
        );
        Failure::new(status, title, detail)
    }
}
