//! What an attempt has to know before its handler begins: what those before it have finished, and by which record key the
//! request is known to its handlers.
//!
//! A request has several records while a secret is rotated, and an attempt after a crash may find only one of them, or one
//! more than the first attempt did. What an application has derived from a record key must not change with that. So the
//! record key that the first attempt was told is kept in all of the records.

use super::{Shared, Steps, Unread};
use crate::key::RecordKey;
use crate::record::progress::encode_identity;
use crate::store::StoreErrorKind;

/// Of the records of a request in their order, with their attempts, the one that its handlers were told where none says it. Its
/// attempts either had one record each, or died before their handler began. The latter claim the records in their order. So the former
/// had the record with the most attempts, and the last one of several.
pub(in crate::engine) fn most_attempted(
    records: impl Iterator<Item = (RecordKey, u32)>,
) -> Option<RecordKey> {
    records
        .max_by_key(|(_, attempt)| *attempt)
        .map(|(key, _)| key)
}

impl Shared {
    /// If that is said nowhere: a record that was there before this attempt is the one that those before it knew.
    fn first_known(&self) -> RecordKey {
        let earlier = self.all_held().filter(|held| held.attempt > 1);
        let known = most_attempted(earlier.map(|held| (held.claim.owner.key, held.attempt)));
        known.unwrap_or(self.held.claim.owner.key)
    }
}

impl Steps {
    /// What [`identify`](Self::identify) has found; this record's own key where that need not be asked.
    pub(crate) fn identity(&self) -> RecordKey {
        let found = self.0.identity.get();
        found.copied().unwrap_or(self.0.held.claim.owner.key)
    }

    /// Reads what the attempts before this one have finished, and finds out the record key that the first one was told, which is
    /// kept where another attempt can find it.
    pub(in crate::engine) async fn identify(&self) -> Result<(), Unread> {
        let log = self.0.log.get_or_try_init(|| self.read()).await?;
        let identity = match log.earlier.identity() {
            Some(identity) => identity,
            None => {
                let identity = self.0.first_known();
                if !self.0.aliases.is_empty() {
                    let end = log.extend(&encode_identity(&identity));
                    self.save(log, end).await?;
                    self.must_be_saved(end).await?;
                }
                identity
            }
        };
        // This attempt asks once.
        let _ = self.0.identity.set(identity);
        Ok(())
    }

    /// Nothing has happened yet, so that a save that fails is the end of it.
    async fn must_be_saved(&self, end: usize) -> Result<(), Unread> {
        if self.0.saves.lock().await.are_all_at(end) {
            return Ok(());
        }
        let error = self.0.engine.0.calls.error(StoreErrorKind::Unavailable);
        Err(Unread::Store(error.not_executed()))
    }
}
