//! What an attempt has to know before its handler begins: what those before it have finished, and by which record key the
//! request is known to its handlers. [`Known`](crate::engine::Known) says how that is found out.

use super::{Shared, Steps, Unread};
use crate::key::RecordKey;
use crate::record::progress::encode_identity;
use crate::store::StoreErrorKind;

impl Shared {
    fn own_key(&self) -> RecordKey {
        self.held.claim.owner.key
    }
}

impl Steps {
    /// What [`identify`](Self::identify) has found; this record's own key where that need not be asked.
    pub(crate) fn identity(&self) -> RecordKey {
        let found = self.0.identity.get();
        found.copied().unwrap_or_else(|| self.0.own_key())
    }

    /// Reads what the attempts before this one have finished, and finds out the record key that the first one was told, which is
    /// kept where another attempt can find it.
    pub(in crate::engine) async fn identify(&self) -> Result<(), Unread> {
        let log = self.0.log.get_or_try_init(|| self.read()).await?;
        let identity = log.told.unwrap_or_else(|| self.0.own_key());
        // A record that is its request's only one says it by that.
        if log.is_beside_others && log.earlier.identity() != Some(identity) {
            log.extend(&encode_identity(&identity));
        }
        let end = log.len();
        if log.is_beside_others && !self.0.saves.lock().await.are_all_at(end) {
            self.save(log, end).await?;
            self.must_be_saved(end).await?;
        }
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
