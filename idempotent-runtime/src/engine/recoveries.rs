//! The records that recovery functions of this process decide about.
//!
//! One function at a time for each record: a function that hangs would otherwise be begun once more by every retry. To other
//! requests of this process the key is in flight meanwhile, which is for [`ClaimTerms`](super::claim_terms::ClaimTerms) to say,
//! and they wait for the function's end, which need not change the record. Other processes know nothing of it.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::key::RecordKey;
use crate::keyed::{Entry, Keyed};

/// Which records are being decided about. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Recoveries(Keyed<Deciding>);

/// One function that decides, until this is dropped: when it returns or panics, and when its runtime ends.
#[derive(Debug, Default)]
pub(super) struct Deciding {
    ended: Arc<Notify>,
}

impl Recoveries {
    /// The record is decided about from now on; `None` if it is already.
    pub(super) fn begin(&self, key: &RecordKey) -> Option<Arc<Entry<Deciding>>> {
        self.0.insert_with(key, Deciding::default)
    }

    pub(super) fn has_begun(&self, key: &RecordKey) -> bool {
        self.0.get(key).is_some()
    }

    /// The end of the function that decides about this record now, if one does.
    pub(super) fn ended(&self, key: &RecordKey) -> Option<OwnedNotified> {
        let deciding = self.0.get(key)?;
        Some(Arc::clone(&deciding.ended).notified_owned())
    }
}

impl Drop for Deciding {
    fn drop(&mut self) {
        self.ended.notify_waiters();
    }
}
