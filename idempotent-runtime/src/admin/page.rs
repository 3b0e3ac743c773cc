//! One page of a list: as many records as fit, in a bounded number of calls.

use crate::store::{ListCursor, ListFilter, ListedRecord};
use crate::{Error, Idempotency};

/// The most records of a page.
pub(super) const LIMIT: usize = 50;

/// The most store calls for a page. Each does a bounded amount of work whether or not it finds something.
const MOST_CALLS: usize = 10;

/// Some records, and where the next page begins.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) records: Vec<ListedRecord>,
    pub(super) next: Option<ListCursor>,
}

impl Page {
    pub(super) async fn read(
        idempotency: &Idempotency,
        filter: &ListFilter,
        after: Option<ListCursor>,
    ) -> Result<Self, Error> {
        let mut page = Self {
            records: Vec::new(),
            next: after,
        };
        for _ in 0..MOST_CALLS {
            let room = LIMIT.saturating_sub(page.records.len());
            let listing = idempotency.list(filter, page.next.as_ref(), room).await?;
            page.records.extend(listing.records);
            page.next = listing.next;
            if page.next.is_none() || page.records.len() >= LIMIT {
                break;
            }
        }
        Ok(page)
    }
}
