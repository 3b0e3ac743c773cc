//! A claim that this process holds, from acquisition to completion or release.

mod aliases;
mod before_sending;
mod giving_up;
mod regaining;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{Either, Ready, ready};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::claim_terms::ClaimTerms;
use super::given_up::{self, GivenUp, How};
use super::leases::LeaseGuard;
use super::steps::{Held, Unread};
use super::tasks::TaskToken;
use super::{Described, Detach, Engine, Refusal, Steps};
use crate::observer::{Event, Outcome, StoreCall};
use crate::record::{CompactResponse, Owner, StoredResponse};
use crate::store::{Acquired, Claim, Completion, StoreError, StoreErrorKind};

/// An acquired claim. Its lease is renewed for as long as this value lives.
///
/// Dropped before [`begin`](Self::begin), it gives the claim up: this attempt has done nothing. While it is given up, that goes on.
/// Dropped after, it leaves the record alone, to be found abandoned, and says so: something may have happened.
#[derive(Debug)]
pub(crate) struct ClaimGuard {
    engine: Engine,
    claim: ClaimTerms,
    attempt: u32,
    /// What its handler finishes is kept by these, if it can ask for them.
    steps: Option<Steps>,
    /// Not shared: it ends with this value, whatever outlives it.
    lease: LeaseGuard,
    age: Duration,
    claimed_at: Instant,
    phase: Phase,
    /// The claims of the same request under other secrets, while a secret is being rotated.
    #[expect(
        clippy::vec_box,
        reason = "each is a box already, and is taken out as one"
    )]
    aliases: Vec<Box<ClaimGuard>>,
    /// Keeps [`Engine::shutdown`] waiting.
    _running: TaskToken,
}

/// How far the attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    NotBegun,
    /// Something may have happened.
    Begun,
    /// The store is asked to end the claim, under which a handler has run or not.
    GivingUp {
        how: How,
        has_run: bool,
    },
    /// There is nothing more to do about its claim.
    Done,
}

/// What a request is answered whose attempt has run: its own response, or what its record says.
pub(crate) type Answer = Claim<Own>;

/// The response of the attempt itself: its claim was not lost.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Own {
    /// It is in the record.
    Stored,
    /// The store has not accepted it yet, and storing it goes on in the background.
    Pending,
    /// It is not stored: the claim was given up.
    GivenUp,
}

impl From<Own> for Outcome {
    fn from(own: Own) -> Self {
        match own {
            Own::Stored => Self::Stored,
            Own::Pending => Self::Pending,
            Own::GivenUp => Self::NotStored,
        }
    }
}

/// A completion, which a store in this process has done already.
pub(crate) type Completing = Either<Ready<Answer>, Pin<Box<dyn Future<Output = Answer> + Send>>>;

/// A completion that got no further for now.
#[derive(Debug)]
pub(super) struct Interrupted {
    /// Missing when a later attempt has to be waited for.
    pub(super) error: Option<StoreError>,
    /// What can be answered meanwhile.
    pub(super) answer: Answer,
}

impl ClaimGuard {
    pub(super) fn new(
        engine: &Engine,
        claim: ClaimTerms,
        Acquired { attempt, age }: Acquired,
        asked_at: Instant,
        (runtime, running): (Handle, TaskToken),
    ) -> Box<Self> {
        engine.0.held.fetch_add(1, Ordering::AcqRel);
        engine.observers().tell(|| Event::Claimed {
            operation: claim.operation.shown(),
            record: claim.owner.key,
            attempt,
        });
        Box::new(Self {
            engine: engine.clone(),
            lease: engine.0.leases.keep(claim.clone(), asked_at, runtime),
            claim,
            attempt,
            steps: None,
            age,
            claimed_at: asked_at,
            phase: Phase::NotBegun,
            aliases: Vec::new(),
            _running: running,
        })
    }

    /// Which attempt of the record this is.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Which attempt of the request this is: a record under another secret may have been there before.
    pub(crate) fn attempt_of_request(&self) -> u32 {
        let attempts = self.aliases.iter().map(|alias| alias.attempt);
        attempts.fold(self.attempt, u32::max)
    }

    /// How old the request's first record was when it was claimed.
    pub(crate) fn age_when_claimed(&self) -> Duration {
        let ages = self.aliases.iter().map(|alias| alias.age);
        ages.fold(self.age, Duration::max)
    }

    pub(crate) fn claimed_at(&self) -> Instant {
        self.claimed_at
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn owner(&self) -> &Owner {
        &self.claim.owner
    }

    /// What operators see of its request.
    pub(crate) fn described(&self) -> &Described {
        &self.claim.operation
    }

    pub(crate) fn steps(&mut self) -> &Steps {
        let new = || {
            let held = Held::new(&self.claim, self.attempt, self.lease.view());
            let aliases = self.aliases.iter();
            let aliases = aliases.map(|it| Held::new(&it.claim, it.attempt, it.lease.view()));
            Steps::new(&self.engine, held, aliases.collect())
        };
        self.steps.get_or_insert_with(new)
    }

    /// Finds out what the handlers of this request are told as its record key, for one that asks. A first attempt with one
    /// record asks no store.
    pub(crate) async fn identified(mut self: Box<Self>) -> Result<Box<Self>, Refusal> {
        if self.attempt == 1 && self.aliases.is_empty() {
            return Ok(self);
        }
        let engine = self.engine.clone();
        let steps = self.steps().clone();
        let Err(unread) = steps.identify().await else {
            return Ok(self);
        };
        // Also if its caller leaves meanwhile.
        let releasing = async move { drop(self.release().await) };
        Detach::new(engine.tasks(), releasing).await;
        let error = match unread {
            Unread::Store(error) => error,
            Unread::Lost => engine.0.calls.error(StoreErrorKind::Busy),
        };
        Err(Refusal::from(error.not_executed()).of_key_in_use())
    }

    /// The run is over.
    fn end_steps(&self) {
        if let Some(steps) = &self.steps {
            steps.end();
        }
    }

    /// To be called where this is polled, which may be on another runtime than the one whose task renews the lease.
    pub(crate) fn outlive_its_runtime(&self) {
        self.engine.0.leases.adopt();
    }

    /// From here on something may have happened.
    pub(crate) fn begin(&mut self) {
        self.phase = Phase::Begun;
        for alias in &mut self.aliases {
            alias.phase = Phase::Begun;
        }
    }

    /// As [`store`](Self::store), of a response that is made once more if the store in this process has
    /// used it up in vain.
    pub(crate) fn complete(
        mut self: Box<Self>,
        response: impl Fn() -> CompactResponse,
    ) -> Completing {
        self.end_steps();
        let has_trace = self.described().trace_context().is_some();
        if self.aliases.is_empty() && !has_trace {
            let calls = &self.engine.0.calls;
            let (begun, backend) = (calls.begun(), calls.backend());
            let completion = backend.complete_now(self.owner(), &response, self.claim.ttl);
            if let Some(Ok(Completion::Stored)) = completion {
                calls.ended(StoreCall::Complete, begun, None);
                self.phase = Phase::Done;
                return Either::Left(ready(Answer::Acquired(Own::Stored)));
            }
        }
        self.complete_later(response().to_stored())
    }

    /// As [`store`](Self::store). Boxed: with the store in this process few requests have to make room for it.
    pub(crate) fn complete_later(self: Box<Self>, response: Arc<StoredResponse>) -> Completing {
        Either::Right(Box::pin(self.store_own(response)))
    }

    /// As [`store`](Self::store), of the response of this attempt, with its trace context.
    pub(crate) async fn store_own(self: Box<Self>, mut response: Arc<StoredResponse>) -> Answer {
        if let Some(trace_context) = self.described().trace_context() {
            let traced = Arc::unwrap_or_clone(response).with_trace_context(trace_context);
            response = Arc::new(traced);
        }
        self.store(response).await
    }

    /// Stores the response, and says what to answer.
    ///
    /// When the store does not take it the answer goes out all the same, and completing goes on in the
    /// background until it is stored or a later attempt's answer stands.
    pub(crate) async fn store(mut self: Box<Self>, response: Arc<StoredResponse>) -> Answer {
        self.end_steps();
        let answer = match self.try_complete(&response).await {
            Ok(answer) => answer,
            Err(Interrupted { error, answer }) => {
                tracing::warn!(record = %self.owner().key,
                    error = error.as_ref().map(|error| error as &dyn std::error::Error),
                    "could not store a response; retrying in the background");
                self.complete_in_background(response);
                return answer;
            }
        };
        self.settle(&answer, response).await;
        answer
    }

    /// The record says this: its own response, or that of another attempt. From here on the aliases say so too, and
    /// not before: another attempt may hold the record, and its answer be the one that stands.
    pub(super) async fn settle(&mut self, answer: &Answer, own: Arc<StoredResponse>) {
        // While the aliases are written the record may expire, and be claimed again for this lease.
        self.lease.stop();
        if !self.aliases.is_empty() {
            Box::pin(self.finish_aliases(answer, own)).await;
        }
        self.outlive_questions();
    }

    /// The claim is done with. A question that got no reply may arrive when its record has expired.
    fn outlive_questions(&mut self) {
        self.phase = Phase::Done;
        if !self.claim.has_lost_question() {
            return;
        }
        let given_up = GivenUp::new(*self.owner(), self.how_if_late(How::Release))
            .may_still_arrive(Instant::now(), self.claim.lease)
            .once_expired(self.claim.ttl);
        if let Some(given_up) = given_up {
            given_up::hand_over(&self.engine, given_up, self.lease.runtime());
        }
    }

    /// Completes, unless another attempt has given an answer under another secret: that one then stands.
    pub(super) async fn try_complete(
        &self,
        response: &Arc<StoredResponse>,
    ) -> Result<Answer, Interrupted> {
        if !self.aliases.is_empty()
            && let Some((alias, stored)) = Box::pin(self.answer_of_aliases()).await?
        {
            return Box::pin(self.complete_as(alias, stored)).await;
        }
        self.complete_record(response, self.claim.ttl).await
    }

    /// Completes, and if the claim was lost finds out why. If that is because the record is gone (a
    /// store that was restarted or has failed over), puts it back with the response; so it does when a
    /// later attempt was abandoned, whose outcome nothing else will ever report.
    async fn complete_record(
        &self,
        response: &Arc<StoredResponse>,
        ttl: Duration,
    ) -> Result<Answer, Interrupted> {
        let mut answer = Answer::Acquired(Own::Pending);
        // A claim that is lost again and again is a store in a bad moment.
        for _ in 0..3 {
            let calls = &self.engine.0.calls;
            match calls.complete(self.owner(), response, ttl).await {
                Ok(Completion::Stored | Completion::AlreadyCompleted) => {
                    return Ok(Answer::Acquired(Own::Stored));
                }
                Ok(Completion::Lost) => {}
                Err(error) => return Err(interrupted(Some(error), answer)),
            }
            answer = self.still_storing();
            // Boxed: few claims are lost.
            match Box::pin(self.regain()).await? {
                Claim::Acquired { .. } | Claim::Abandoned { .. } => {}
                Claim::Completed(stored) => return Ok(Answer::Completed(stored)),
                Claim::InFlight { lease_left } => {
                    return Err(interrupted(None, Answer::InFlight { lease_left }));
                }
                Claim::Mismatch => return Ok(self.unknown()),
            }
        }
        Err(interrupted(None, self.still_storing()))
    }

    /// The claim was lost, and its answer is being stored all the same.
    fn still_storing(&self) -> Answer {
        let lease_left = self.claim.lease;
        Answer::InFlight { lease_left }
    }

    /// The claim was lost, and what its attempt has done is not in the record.
    fn unknown(&self) -> Answer {
        Answer::Abandoned {
            attempt: self.attempt,
            age: self.age + self.claimed_at.elapsed(),
        }
    }
}

fn interrupted(error: Option<StoreError>, answer: Answer) -> Interrupted {
    Interrupted { error, answer }
}

impl Drop for ClaimGuard {
    fn drop(&mut self) {
        self.engine.0.held.fetch_sub(1, Ordering::AcqRel);
        self.engine.observers().tell(|| Event::ClaimEnded {
            operation: self.claim.operation.shown(),
        });
        self.end_steps();
        match self.phase {
            Phase::NotBegun => {
                self.lease.stop();
                self.hand_over(How::of_attempt(self.attempt));
            }
            Phase::Begun => self.tell_abandoned(),
            Phase::Done => {}
            // Its runtime ends before the reply.
            Phase::GivingUp { how, has_run } => {
                self.lease.stop();
                if has_run && how == How::Abandon {
                    self.tell_abandoned();
                }
                self.hand_over_without_reply(how, has_run);
            }
        }
    }
}
