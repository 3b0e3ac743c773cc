//! One record of the request, and what of the log is kept there. While a secret is rotated there are several.

use std::ops::Range;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{Log, Shared};
use crate::engine::Engine;
use crate::engine::claim_terms::ClaimTerms;
use crate::engine::leases::LeaseView;
use crate::record::{Record, RecordState};
use crate::store::{Claim, Progress, StoreError};

/// The claim of one record, under one secret.
#[derive(Debug)]
pub(in crate::engine) struct Held {
    pub(super) claim: ClaimTerms,
    pub(super) attempt: u32,
    pub(super) lease: LeaseView,
}

impl Held {
    pub(in crate::engine) fn new(claim: &ClaimTerms, attempt: u32, lease: LeaseView) -> Self {
        Self {
            claim: claim.clone(),
            attempt,
            lease,
        }
    }

    /// What is stored there, if that is still this claim's: not a later attempt's record, and not a completed one.
    pub(super) async fn read(&self, engine: &Engine) -> Result<Option<Record>, StoreError> {
        let record = engine.read(&self.claim.owner.key).await?;
        Ok(record.filter(|record| {
            record.attempt == self.attempt && !matches!(record.state, RecordState::Completed(_))
        }))
    }

    /// Tries twice. A later save carries what neither has.
    pub(super) async fn save(
        &self,
        shared: &Shared,
        log: &Log,
        unsaved: Range<usize>,
    ) -> Result<Progress, StoreError> {
        match self.try_save(shared, log, unsaved.clone()).await {
            Ok(saved) => Ok(saved),
            Err(_) => self.try_save(shared, log, unsaved).await,
        }
    }

    /// If the claim is lost because the store has lost the record, puts it back, as a completion
    /// does.
    async fn try_save(
        &self,
        shared: &Shared,
        log: &Log,
        unsaved: Range<usize>,
    ) -> Result<Progress, StoreError> {
        let engine = &shared.engine;
        match self.save_range(engine, log, unsaved.clone()).await? {
            Progress::Lost => {}
            saved => return Ok(saved),
        }
        match self.regain(shared).await {
            // It has none of the steps now.
            Ok(true) => self.save_range(engine, log, 0..unsaved.end).await,
            // That the claim is not in the store is certain; why need not be.
            _ => Ok(Progress::Lost),
        }
    }

    /// Asks for a claim that was lost: if the store has lost the record, it is put back. Whether it was.
    pub(super) async fn regain(&self, shared: &Shared) -> Result<bool, StoreError> {
        // The claim can be given up while that question is on its way: either that sees this, or here it is seen that
        // the claim is given up.
        self.claim.note_question();
        if shared.is_over.load(Ordering::SeqCst) {
            self.claim.note_reply();
            return Ok(false);
        }
        let (engine, asked_at) = (&shared.engine.0, Instant::now());
        let asking = self.claim.ask_again(&engine.calls, None);
        // From here on it is noted there.
        let claimed = asking.await;
        self.claim.note_claimed(&claimed);
        let is_regained = matches!(claimed?, Claim::Acquired { .. });
        if is_regained {
            self.lease.renewed(asked_at);
        }
        Ok(is_regained)
    }

    /// A store that has less than was saved (it has lost something) gets what it misses.
    async fn save_range(
        &self,
        engine: &Engine,
        log: &Log,
        unsaved: Range<usize>,
    ) -> Result<Progress, StoreError> {
        match self.save_once(engine, log, unsaved.clone()).await? {
            Progress::Behind { stored_bytes } => {
                self.save_once(engine, log, stored_bytes..unsaved.end).await
            }
            saved => Ok(saved),
        }
    }

    async fn save_once(
        &self,
        engine: &Engine,
        log: &Log,
        unsaved: Range<usize>,
    ) -> Result<Progress, StoreError> {
        let bytes = log.copy(unsaved.clone());
        let calls = &engine.0.calls;
        calls
            .save_progress(&self.claim.owner, unsaved.start, &bytes)
            .await
    }
}
