//! One record of the request, and what of the log is kept there. While a secret is rotated there are several.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::{Log, Shared};
use crate::engine::Engine;
use crate::engine::claim_terms::ClaimTerms;
use crate::record::{Record, RecordState};
use crate::store::{Claim, Progress, StoreError};

/// The claim of one record, under one secret.
#[derive(Debug)]
pub(in crate::engine) struct Held {
    pub(super) claim: ClaimTerms,
    pub(super) attempt: u32,
}

impl Held {
    pub(in crate::engine) fn new(claim: &ClaimTerms, attempt: u32) -> Self {
        Self {
            claim: claim.clone(),
            attempt,
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
            Progress::Lost if !shared.is_over.load(Ordering::Acquire) => {}
            saved => return Ok(saved),
        }
        match self.claim_again(engine).await {
            // It has none of the steps now.
            Ok(Claim::Acquired { .. }) => self.save_range(engine, log, 0..unsaved.end).await,
            // That the claim is not in the store is certain; why need not be.
            _ => Ok(Progress::Lost),
        }
    }

    /// Asks for a claim that was lost: if the store has lost the record, it is put back.
    pub(super) async fn claim_again(&self, engine: &Engine) -> Result<Claim, StoreError> {
        self.claim
            .ask(&engine.0.calls, engine.0.retention, None)
            .await
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
