//! A claim that this process holds, from acquisition to completion or release.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::leases::LeaseGuard;
use super::steps::LeaseView;
use super::{Engine, Steps};
use crate::record::{CompactResponse, Owner, RecordState, StoredResponse};
use crate::store::{Claim, ClaimRequest, Completion, Release, Renewal, StoreError};

/// An acquired claim. Its lease is renewed for as long as this value lives.
///
/// Dropped before [`begin`](Self::begin), it gives the claim up: this attempt has done nothing.
/// Dropped after, it leaves the record alone, to be found abandoned: something may have happened.
#[derive(Debug)]
pub(crate) struct Held {
    engine: Engine,
    request: ClaimRequest,
    attempt: u32,
    /// What its handler finishes is kept by these, if it can ask for them.
    steps: Option<Steps>,
    lease: LeaseGuard,
    age: Duration,
    claimed_at: Instant,
    begun: bool,
    /// A first question for this claim got no reply, and may arrive after the claim is given up.
    is_unheard: bool,
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

/// A completion that got no further for now.
#[derive(Debug)]
pub(super) struct Interrupted {
    pub(super) error: StoreError,
    /// What can be answered meanwhile.
    answer: Answer,
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
        engine.0.held.fetch_add(1, Ordering::AcqRel);
        Self {
            engine: engine.clone(),
            request: *request,
            attempt,
            steps: None,
            lease: engine.0.leases.keep(request.owner, request.lease, asked_at),
            age,
            claimed_at: asked_at,
            begun: false,
            is_unheard: false,
            _running: running,
        }
    }

    pub(super) fn unheard(mut self, is_unheard: bool) -> Self {
        self.is_unheard = is_unheard;
        self
    }

    /// Which attempt of the record this is.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How old the record was when it was claimed.
    pub(crate) fn age_when_claimed(&self) -> Duration {
        self.age
    }

    pub(crate) fn claimed_at(&self) -> Instant {
        self.claimed_at
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    fn request(&self) -> &ClaimRequest {
        &self.request
    }

    pub(crate) fn owner(&self) -> &Owner {
        &self.request().owner
    }

    pub(crate) fn steps(&mut self) -> &Steps {
        let length = self.request.lease;
        let lease = move || Instant::now() + length;
        let lease = LeaseView::new(lease);
        let steps = || Steps::new(&self.engine, &self.request, self.attempt, lease);
        self.steps.get_or_insert_with(steps)
    }

    /// The end of the record's life, if nothing moves it.
    pub(super) fn expires_at(&self) -> Instant {
        self.claimed_at + self.request().ttl
    }

    /// From here on something may have happened.
    pub(crate) fn begin(&mut self) {
        self.begun = true;
    }

    /// Whether the response is stored, because the store is in this process and the claim is not lost.
    /// Otherwise there is more to do: [`complete`](Self::complete).
    pub(crate) fn complete_now(&self, response: impl FnOnce() -> CompactResponse) -> bool {
        let store = self.engine.store().in_process();
        store.is_some_and(|store| {
            let completion = store.complete_now(self.owner(), response());
            matches!(completion, Ok(Completion::Stored))
        })
    }

    /// Stores the response, and says what to answer.
    ///
    /// When the store is away the answer goes out all the same, and completing goes on in the
    /// background.
    pub(crate) async fn complete(self, response: Arc<StoredResponse>) -> Answer {
        match self.try_complete(&response).await {
            Ok(answer) => answer,
            Err(Interrupted { error, answer }) => {
                tracing::warn!(record = %self.owner().key, error = &error as &dyn std::error::Error,
                    "could not store a response, trying again in the background");
                self.complete_in_background(response);
                answer
            }
        }
    }

    /// Completes, and if the claim was lost finds out why. If that is because the record is gone (a
    /// store that was restarted or has failed over), puts it back with the response.
    pub(super) async fn try_complete(
        &self,
        response: &Arc<StoredResponse>,
    ) -> Result<Answer, Interrupted> {
        for answer in [Answer::Own, Answer::Unknown] {
            match self.store_response(response).await {
                Ok(Completion::Stored | Completion::AlreadyMine) => return Ok(Answer::Own),
                Ok(Completion::Lost) => {}
                Err(error) => return Err(Interrupted { error, answer }),
            }
            tracing::warn!(record = %self.owner().key, "lost the claim before its response was stored");
            match self.engine().claim_again(self.request()).await {
                Ok(Claim::Acquired { .. }) => {}
                Ok(Claim::Completed(stored)) => return Ok(Answer::Stored(stored)),
                Ok(Claim::InFlight { lease_left }) => return Ok(Answer::InFlight { lease_left }),
                Ok(Claim::Abandoned { .. } | Claim::Mismatch) => return Ok(Answer::Unknown),
                Err(error) => {
                    return Err(Interrupted {
                        error,
                        answer: Answer::Unknown,
                    });
                }
            }
        }
        Ok(Answer::Unknown)
    }

    async fn store_response(
        &self,
        response: &Arc<StoredResponse>,
    ) -> Result<Completion, StoreError> {
        self.engine()
            .timed(self.engine().store().complete(self.owner(), response))
            .await
    }

    /// Frees the key, because the handler says that nothing happened, and says what to answer.
    ///
    /// After a take-over this attempt cannot speak for the ones before it: the key then becomes what
    /// it was, abandoned.
    pub(crate) async fn release(self) -> Answer {
        let is_free = self.attempt() == 1;
        self.give_up(is_free).await
    }

    /// As [`release`](Self::release), when it is not the handler who says that nothing happened. A
    /// finished step says that something did: the key then becomes abandoned, for the next attempt
    /// to go on after that step.
    pub(crate) async fn withdraw(self) -> Answer {
        let has_finished = self.steps.as_ref().is_some_and(Steps::has_finished);
        let is_free = self.attempt() == 1 && !has_finished;
        self.give_up(is_free).await
    }

    async fn give_up(mut self, is_free: bool) -> Answer {
        // Whatever comes of it, there is nothing more to do when this value is dropped.
        self.begun = true;
        if let Some(steps) = &self.steps {
            if !is_free {
                steps.flush().await;
            }
            steps.end();
        }
        self.lease.stop();
        let given_up = self.engine().give_up(self.owner(), is_free).await;
        if self.is_unheard && given_up.is_ok() {
            self.give_up_in_background(is_free);
        }
        match given_up {
            Ok(true) => Answer::Own,
            Ok(false) => self.look().await,
            Err(error) => {
                tracing::warn!(record = %self.owner().key, error = &error as &dyn std::error::Error,
                    "could not release a key, trying again in the background");
                self.give_up_in_background(is_free);
                Answer::Own
            }
        }
    }

    /// Ends the lease now and not in its own time: something may have happened, and nobody is left
    /// who could say what.
    pub(crate) async fn abandon(mut self) {
        self.begun = true;
        if let Some(steps) = &self.steps {
            steps.flush().await;
            steps.end();
        }
        self.lease.stop();
        // As the lease of an attempt that is not the first ends. If the store is away, time will do it.
        if let Err(error) = self.engine().give_up(self.owner(), false).await {
            tracing::warn!(record = %self.owner().key, error = &error as &dyn std::error::Error,
                "could not end a lease");
        }
    }

    fn give_up_in_background(&self, is_free: bool) {
        let (owner, until) = (*self.owner(), self.expires_at());
        let lease_until = self.claimed_at + self.request().lease;
        // A claim that was heard cannot arrive again.
        let late_until = self.is_unheard.then_some(lease_until);
        let runtime = self.lease.runtime();
        self.engine()
            .give_up_in_background(owner, is_free, until, late_until, runtime);
    }

    /// The key could not be released because somebody else has the claim, or nobody.
    async fn look(&self) -> Answer {
        let record = self.engine().read(&self.owner().key).await;
        match record.map(|record| record.map(|record| record.state)) {
            Ok(None) => Answer::Own,
            Ok(Some(RecordState::Completed(stored))) => Answer::Stored(stored),
            Ok(Some(RecordState::Running { lease_left })) => Answer::InFlight { lease_left },
            Ok(Some(RecordState::Abandoned)) | Err(_) => Answer::Unknown,
        }
    }
}

impl Engine {
    /// Ends a claim that has had no effect, and says whether it was still this owner's.
    ///
    /// The first attempt's record is removed. A later attempt's stays, with its lease ended: what the
    /// attempts before it have done is as unknown as it was.
    pub(super) async fn give_up(&self, owner: &Owner, is_first: bool) -> Result<bool, StoreError> {
        if is_first {
            let released = self.timed(self.store().release(owner)).await?;
            return Ok(released == Release::Released);
        }
        let end = Renewal {
            owner: *owner,
            lease: Duration::ZERO,
        };
        let lost = self.timed(self.store().renew(&[end])).await?;
        Ok(lost.is_empty())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.engine().0.held.fetch_sub(1, Ordering::AcqRel);
        if let Some(steps) = &self.steps {
            steps.end();
        }
        if !self.begun {
            self.give_up_in_background(self.attempt() == 1);
        }
    }
}
