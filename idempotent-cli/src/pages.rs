//! A listing, page by page, and how far it has come.

use std::collections::HashSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use idempotent_runtime::store::{ListCursor, ListFilter, ListedRecord};
use idempotent_runtime::{Idempotency, RecordKey};

use crate::failure::Failure;

/// The most that a store returns at a time.
pub(crate) const PAGE: usize = 1000;

/// From when on a scan is long, and how often it says how far it is.
const LONG: Duration = Duration::from_secs(1);

/// The pages of a listing, in order. From the beginning, each record is there once: Redis may list one again while its
/// table of keys is resized. (That takes 32 bytes and more a record, on Redis.)
pub(crate) struct Pages<'a> {
    idempotency: &'a Idempotency,
    filter: ListFilter,
    next: Option<ListCursor>,
    is_over: bool,
    listed: usize,
    /// The records that were listed, where they may be again.
    known: Option<HashSet<RecordKey>>,
    progress: Progress,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(idempotency: &'a Idempotency, filter: ListFilter) -> Self {
        let mut pages = Self::after(idempotency, filter, None);
        pages.known = (idempotency.store().name() == "redis").then(HashSet::new);
        pages
    }

    pub(crate) fn after(
        idempotency: &'a Idempotency,
        filter: ListFilter,
        cursor: Option<ListCursor>,
    ) -> Self {
        Self {
            idempotency,
            filter,
            next: cursor,
            is_over: false,
            listed: 0,
            known: None,
            progress: Progress::new(),
        }
    }

    /// The next page, of at most so many records; it can be empty. `None` after the last one.
    pub(crate) async fn next(&mut self, most: usize) -> Result<Option<Vec<ListedRecord>>, Failure> {
        if self.is_over {
            return Ok(None);
        }
        self.progress.tell(self.listed);
        let cursor = self.next.as_ref();
        let page = self.idempotency.list(&self.filter, cursor, most.min(PAGE));
        let mut page = page.await?;
        if let Some(known) = &mut self.known {
            leave_out(known, &mut page.records);
        }
        self.listed += page.records.len();
        if !page.records.is_empty() {
            // What is printed of them may be on the same terminal.
            self.progress.clear();
        }
        self.is_over = page.next.is_none();
        self.next = page.next;
        Ok(Some(page.records))
    }

    /// Where the page after the last one begins.
    pub(crate) fn cursor(&self) -> Option<&ListCursor> {
        self.next.as_ref()
    }
}

/// What is known, and what is twice.
fn leave_out(known: &mut HashSet<RecordKey>, records: &mut Vec<ListedRecord>) {
    records.retain(|record| known.insert(record.key));
}

/// On standard error, if that is a terminal; gone when the scan is over.
struct Progress {
    is_shown: bool,
    has_told: bool,
    last: Instant,
}

impl Progress {
    fn new() -> Self {
        Self {
            is_shown: io::stderr().is_terminal(),
            has_told: false,
            last: Instant::now(),
        }
    }

    fn tell(&mut self, listed: usize) {
        if self.is_shown && self.last.elapsed() >= LONG {
            self.last = Instant::now();
            self.has_told = true;
            // What cannot be told is not missed.
            let _ = write!(io::stderr(), "\r\x1b[Klooking: {listed} so far");
        }
    }

    fn clear(&mut self) {
        if self.has_told {
            self.has_told = false;
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use idempotent_runtime::store::RecordStatus;

    use super::*;

    #[test]
    fn a_record_that_is_listed_again_is_left_out() {
        let page = |keys: &[u8]| -> Vec<_> {
            let key = |it: &u8| RecordKey::from_bytes([*it; 32]);
            let listed = |it| ListedRecord::new(key(it), RecordStatus::Completed, "a".into());
            keys.iter().map(listed).collect()
        };
        let (mut known, mut first, mut second) = (HashSet::new(), page(&[1, 2, 1]), page(&[2, 3]));
        leave_out(&mut known, &mut first);
        leave_out(&mut known, &mut second);
        assert_eq!((first, second), (page(&[1, 2]), page(&[3])));
    }
}
