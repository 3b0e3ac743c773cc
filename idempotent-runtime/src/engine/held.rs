//! A claim that this process holds, from acquisition to completion or release.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Engine;
use super::leases::LeaseGuard;
use crate::record::{Owner, RecordState, StoredResponse};
use crate::store::{Claim, ClaimRequest, Completion, Release, StoreError};

/// An acquired claim. Its lease is renewed for as long as this value lives.
///
/// Dropped before [`begin`](Self::begin), it releases the key: nothing has happened. Dropped after,
/// it leaves the record alone, to be found abandoned: something may have.
#[derive(Debug)]
pub(crate) struct Held {
    engine: Engine,
    request: ClaimRequest,
    attempt: u32,
    age: Duration,
    claimed_at: Instant,
    begun: bool,
    lease: LeaseGuard,
    /// Keeps [`Engine::shutdown`] waiting.
    _running: TaskTrackerToken,
}

/// What the owner of a claim may answer once it is done with it.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Its own result.
    Own,
    /// The claim was lost, and somebody else's result is the stored one.
    Stored(Arc<StoredResponse>),
    /// The claim was lost to somebody who is still at it.
    InFlight { lease_left: Duration },
    /// The claim was lost, and nothing can be said.
    Unknown,
}

impl Held {
    pub(super) fn new(
        engine: &Engine,
        request: &ClaimRequest,
        attempt: u32,
        age: Duration,
        asked_at: Instant,
        running: TaskTrackerToken,
    ) -> Self {
        Self {
            engine: engine.clone(),
            request: *request,
            attempt,
            age,
            claimed_at: asked_at,
            begun: false,
            lease: engine.0.leases.keep(request.owner, request.lease, asked_at),
            _running: running,
        }
    }

    /// Which attempt of the record this is.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The time since the record's first claim.
    pub(crate) fn age(&self) -> Duration {
        self.age + self.claimed_at.elapsed()
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn owner(&self) -> &Owner {
        &self.request.owner
    }

    pub(super) fn lease_until(&self) -> Instant {
        self.lease.until()
    }

    /// From here on something may have happened.
    pub(crate) fn begin(mut self) -> Self {
        self.begun = true;
        self
    }

    /// Stores the response, and says what to answer.
    ///
    /// When the store is away the answer goes out all the same, and completing goes on in the
    /// background until the lease ends.
    pub(crate) async fn complete(self, response: Arc<StoredResponse>) -> Answer {
        match self.store_response(&response).await {
            Ok(Completion::Stored | Completion::AlreadyMine) => Answer::Own,
            Ok(Completion::Lost) => self.restore(&response).await,
            Err(error) => {
                tracing::warn!(record = %self.owner().key, error = &error as &dyn std::error::Error,
                    "could not store a response, trying again in the background");
                self.complete_in_background(response);
                Answer::Own
            }
        }
    }

    /// Frees the key, and says what to answer.
    pub(crate) async fn release(self) -> Answer {
        let store = self.engine.store();
        match self.engine.timed(store.release(self.owner())).await {
            Ok(Release::Released) => Answer::Own,
            Ok(Release::Lost) => self.look().await,
            Err(error) => {
                tracing::warn!(record = %self.owner().key, error = &error as &dyn std::error::Error,
                    "could not release a key, trying again in the background");
                self.engine
                    .release_in_background(*self.owner(), self.lease_until());
                Answer::Own
            }
        }
    }

    pub(super) async fn store_response(
        &self,
        response: &Arc<StoredResponse>,
    ) -> Result<Completion, StoreError> {
        self.engine
            .timed(self.engine.store().complete(self.owner(), response))
            .await
    }

    /// The claim was lost. If that is because the record is gone (a store that was restarted or
    /// failed over), puts it back with the response; otherwise answers from what is there.
    async fn restore(&self, response: &Arc<StoredResponse>) -> Answer {
        let record = self.owner().key;
        tracing::warn!(%record, "lost the claim before its response was stored");
        let again = ClaimRequest {
            take_over: None,
            ..self.request
        };
        match self.engine.timed(self.engine.store().claim(&again)).await {
            Ok(Claim::Acquired { .. }) => match self.store_response(response).await {
                Ok(Completion::Stored | Completion::AlreadyMine) | Err(_) => Answer::Own,
                Ok(Completion::Lost) => Answer::Unknown,
            },
            Ok(Claim::Completed(stored)) => Answer::Stored(stored),
            Ok(Claim::InFlight { lease_left }) => Answer::InFlight { lease_left },
            Ok(Claim::Abandoned { .. } | Claim::Mismatch) => Answer::Unknown,
            Err(error) => {
                tracing::warn!(%record, error = &error as &dyn std::error::Error,
                    "could not read the record of a lost claim");
                Answer::Unknown
            }
        }
    }

    /// The key could not be released because somebody else has the claim, or nobody.
    async fn look(&self) -> Answer {
        let record = self
            .engine
            .timed(self.engine.store().get(&self.owner().key))
            .await;
        match record.map(|record| record.map(|record| record.state)) {
            Ok(None) => Answer::Own,
            Ok(Some(RecordState::Completed(stored))) => Answer::Stored(stored),
            Ok(Some(RecordState::Running { lease_left })) => Answer::InFlight { lease_left },
            Ok(Some(RecordState::Abandoned)) | Err(_) => Answer::Unknown,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.begun {
            self.engine
                .release_in_background(*self.owner(), self.lease_until());
        }
    }
}
