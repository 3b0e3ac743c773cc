//! Becoming the attempt that runs, or learning what to answer instead.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::claim_terms::ClaimTerms;
use super::given_up::{GivenUp, How, hand_over};
use super::take_over::{Began, Decision, Finding, decide, run_or_complete, wait_before_take_over};
use super::wait::Waiter;
use super::{ClaimGuard, DescribeAbandoned, Detach, Engine, Fingerprints, Intent, Refusal, random};
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::observer::{Event, StoreCall};
use crate::policy::{InFlight, OnAbandoned, Policy};
use crate::record::{Owner, StoredResponse, Token};
use crate::store::{Claim, StoreError, StoreErrorKind};

mod aliases;

/// How a request is protected, whatever its record is.
struct Protection<'a, 'f> {
    intent: &'a Intent,
    fingerprints: &'a mut Fingerprints<'f>,
    policy: &'a Policy,
    describe: DescribeAbandoned<'a>,
    /// A claim was answered with another attempt, whatever became of that one.
    is_in_use: bool,
}

impl Intent {
    /// By which of its fingerprints, if there is more than one.
    fn claim(
        &self,
        engine: &Engine,
        owner: Owner,
        fingerprint: Fingerprint,
        policy: &Policy,
    ) -> ClaimTerms {
        let lives = (self.ttl, engine.0.retention);
        let claim = ClaimTerms::new(owner, fingerprint, &self.operation, policy.lease, lives);
        claim.beside_others(!self.keys.others().is_empty())
    }
}

impl Protection<'_, '_> {
    fn claim(&self, engine: &Engine, owner: Owner) -> ClaimTerms {
        let fingerprint = self.fingerprints.current();
        self.intent.claim(engine, owner, fingerprint, self.policy)
    }
}

impl Engine {
    /// A replay that is cached in this process, without asking further.
    pub(crate) fn cached(&self, intent: &Intent) -> Option<Arc<StoredResponse>> {
        self.cached_replay(&intent.keys.first(), &intent.fingerprint)
    }

    fn cached_replay(
        &self,
        key: &RecordKey,
        fingerprint: &Fingerprint,
    ) -> Option<Arc<StoredResponse>> {
        let replay = self.0.calls.backend().replay(key, fingerprint)?;
        self.observers().tell(|| Event::CacheHit);
        Some(replay)
    }

    /// What a first request or a replay comes to in a store in this process, where nothing is waited for.
    /// `None` if there is more to do, and then nothing was done.
    fn enter_in_process(
        &self,
        intent: &Intent,
        policy: &Policy,
    ) -> Option<Result<Claim<Box<ClaimGuard>>, Refusal>> {
        let backend = self.0.calls.backend();
        if !backend.is_in_process() || !intent.keys.others().is_empty() {
            return None;
        }
        // As in `claim_attached`, the token of the tracker comes before the look at the flag.
        let running = self.tasks().token();
        if self.is_closing() {
            return None;
        }
        let asked_at = Instant::now();
        self.look_after(asked_at);
        // Panics where there is none: before anything is claimed, which nothing would keep or give up.
        let runtime = Handle::current();
        let owner = Owner {
            key: intent.keys.first(),
            token: Token::of_process(),
        };
        let claim = intent.claim(self, owner, intent.fingerprint, policy);
        let claimed = backend.claim_now(&claim.request(None))?;
        let (calls, error) = (&self.0.calls, claimed.as_ref().err());
        calls.ended(StoreCall::Claim, Some(asked_at), error);
        match claimed {
            // There may be more to do about it.
            Ok(Claim::InFlight { .. } | Claim::Abandoned { .. } | Claim::Mismatch) => None,
            Ok(claimed) => Some(Ok(claimed.map(|acquired| {
                ClaimGuard::new(self, claim, acquired, asked_at, (runtime, running))
            }))),
            Err(error) => Some(Err(error.into())),
        }
    }

    /// Claims, waits or recovers as the policy says.
    ///
    /// Dropping the returned future is safe at every point: a claim that was on its way is
    /// awaited in the background and released, and a waiter just leaves.
    pub(crate) async fn enter(
        &self,
        intent: &Intent,
        fingerprints: Fingerprints<'_>,
        policy: &Policy,
        describe: DescribeAbandoned<'_>,
    ) -> Result<Claim<Box<ClaimGuard>>, Refusal> {
        let entered = match self.enter_in_process(intent, policy) {
            Some(entered) => entered,
            // Boxed: with the store in this process few requests have to make room for it.
            None => Box::pin(self.enter_records(intent, fingerprints, policy, describe)).await,
        };
        match entered {
            // It had a record when it was asked for one, or was not too old before it waited.
            Ok(Claim::Acquired(held))
                if held.attempt_of_request() == 1 && intent.is_too_old(policy) =>
            {
                // Boxed: few requests have to make room for it.
                Box::pin(self.refuse_as_expired(held)).await
            }
            entered => entered,
        }
    }

    async fn refuse_as_expired(
        &self,
        held: Box<ClaimGuard>,
    ) -> Result<Claim<Box<ClaimGuard>>, Refusal> {
        Detach::new(self.tasks(), held.withdraw()).await;
        Err(Refusal::KeyExpired)
    }

    async fn enter_records(
        &self,
        intent: &Intent,
        mut fingerprints: Fingerprints<'_>,
        policy: &Policy,
        describe: DescribeAbandoned<'_>,
    ) -> Result<Claim<Box<ClaimGuard>>, Refusal> {
        let mut protection = Protection {
            intent,
            fingerprints: &mut fingerprints,
            policy,
            describe,
            is_in_use: false,
        };
        let entered = self.enter_protected(&mut protection).await;
        entered.map_err(|refusal| match protection.is_in_use {
            true => refusal.of_key_in_use(),
            false => refusal,
        })
    }

    async fn enter_protected(
        &self,
        protection: &mut Protection<'_, '_>,
    ) -> Result<Claim<Box<ClaimGuard>>, Refusal> {
        let (intent, policy) = (protection.intent, protection.policy);
        let mut waiter = Waiter::new(policy, intent.ttl);
        let mut has_waited = false;
        loop {
            if has_waited
                && let Some((alias, lease_left)) = self.running_alias(intent).await
                && waiter.wait(&self.0.watches, &alias, lease_left).await
            {
                continue;
            }
            let mut key = intent.keys.first();
            let mut outcome = self.enter_record(key, protection).await?;
            for alias in intent.keys.others() {
                let Claim::Acquired(held) = outcome else {
                    break;
                };
                key = *alias;
                outcome = Box::pin(self.enter_alias(held, key, protection)).await?;
            }
            let Claim::InFlight { lease_left } = outcome else {
                if let Claim::Completed(response) = &outcome {
                    self.copy_to_aliases(intent, key, response, policy).await;
                }
                return Ok(outcome);
            };
            if policy.in_flight == InFlight::Wait {
                protection.fingerprints.matched();
            }
            if !waiter.wait(&self.0.watches, &key, lease_left).await {
                return Ok(Claim::InFlight { lease_left });
            }
            has_waited = true;
        }
    }

    /// As [`enter`](Self::enter) for one record, without waiting.
    async fn enter_record(
        &self,
        key: RecordKey,
        protection: &mut Protection<'_, '_>,
    ) -> Result<Claim<Box<ClaimGuard>>, Refusal> {
        // Asked here, although the store would ask it, too: a replay without a call is not told as one.
        if !self.0.calls.backend().is_in_process()
            && let Some(response) = self.cached_replay(&key, &protection.fingerprints.current())
        {
            return Ok(Claim::Completed(response));
        }
        let (mut take_over, mut waited_for) = (None, None);
        let (mut finding, mut began, mut deciding) = (None, None::<Began>, None);
        loop {
            // A new one each time: the last one may have to be given up in the background.
            let claim = protection.claim(self, new_owner(key)?);
            let claimed = self.claim(claim, take_over.take()).await?;
            drop(deciding.take());
            protection.is_in_use |= !matches!(claimed, Claim::Acquired(_));
            match claimed {
                Claim::Acquired(held)
                    if held.attempt() > 1 && began.is_some_and(|it| it.is_before(&held)) =>
                {
                    // The record that was decided about is gone, and this one had an attempt of the same number.
                    (finding, began, waited_for) = (None, None, None);
                    Detach::new(self.tasks(), held.withdraw()).await;
                }
                Claim::Acquired(held) => return Ok(run_or_complete(self, held, finding).await),
                Claim::Completed(response) => return Ok(Claim::Completed(response)),
                Claim::InFlight { lease_left } => return Ok(Claim::InFlight { lease_left }),
                Claim::Mismatch => {
                    if !protection.fingerprints.mismatched() {
                        return Ok(Claim::Mismatch);
                    }
                }
                Claim::Abandoned { attempt, age } => {
                    protection.fingerprints.matched();
                    let beside = Box::pin(self.said_beside(&key, protection));
                    if let Some(said) = beside.await? {
                        return Ok(said);
                    }
                    finding = None;
                    let (policy, describe) = (protection.policy, protection.describe);
                    let may_be_taken_over = !matches!(policy.on_abandoned, OnAbandoned::Reject);
                    if may_be_taken_over && waited_for != Some(attempt) {
                        let claim = protection.claim(self, new_owner(key)?);
                        if let Some(answer) = wait_before_take_over(self, claim, attempt).await? {
                            return Ok(Claim::Completed(answer));
                        }
                        waited_for = Some(attempt);
                    }
                    let claim = protection.claim(self, new_owner(key)?);
                    began = Some(Began::of(age));
                    let of = (&protection.intent.keys, attempt);
                    let decided = Box::pin(decide(self, claim, of, policy, describe)).await?;
                    deciding = decided.until_applied;
                    match decided.decision {
                        Decision::Refuse => return Ok(Claim::Abandoned { attempt, age }),
                        Decision::Answer(answer) => return Ok(Claim::Completed(answer)),
                        Decision::Run => take_over = Some(attempt),
                        Decision::Complete(response) => {
                            finding = Some(Finding { attempt, response });
                            take_over = Some(attempt);
                        }
                        Decision::LookAgain => {}
                    }
                }
            }
        }
    }

    async fn claim(
        &self,
        claim: ClaimTerms,
        take_over: Option<u32>,
    ) -> Result<Claim<Box<ClaimGuard>>, Refusal> {
        let claiming = self.clone().claim_attached(claim, take_over);
        Detach::new(self.tasks(), claiming).await
    }

    /// Must run to its end: a claim that happened is either kept or released.
    pub(super) async fn claim_attached(
        self,
        claim: ClaimTerms,
        take_over: Option<u32>,
    ) -> Result<Claim<Box<ClaimGuard>>, Refusal> {
        // The token comes before the look at the flag, so that a shutdown that was not seen here
        // sees the token and waits.
        let running = self.tasks().token();
        if self.is_closing() {
            let keys = crate::key::KeySet::new(claim.owner.key, None);
            let is_this_request = |fingerprint| fingerprint == claim.fingerprint;
            return match self.peek(&keys, is_this_request).await {
                Some(stored) => Ok(Claim::Completed(stored)),
                None => Err(Refusal::ShuttingDown),
            };
        }
        let asked_at = Instant::now();
        self.look_after(asked_at);
        let here = (Handle::current(), running);
        let claimed = self.ask(&claim, take_over).await?;
        Ok(claimed.map(|acquired| ClaimGuard::new(&self, claim, acquired, asked_at, here)))
    }

    /// Asks twice when a reply was lost or something was in the way: the token makes the second question
    /// the same claim.
    ///
    /// A question that got no reply may arrive at any time after this. Unless the claim is held by then,
    /// its token is given up in the background, whatever the second answer was: it must not be used
    /// again.
    pub(super) async fn ask(
        &self,
        claim: &ClaimTerms,
        take_over: Option<u32>,
    ) -> Result<Claim, StoreError> {
        let mut question = Question {
            engine: self,
            claim,
            take_over,
            asked_at: Instant::now(),
            runtime: Handle::current(),
            is_held: false,
        };
        let first = match question.ask().await {
            Err(error) if error.may_have_happened() || error.kind() == StoreErrorKind::Busy => {
                error
            }
            reply => return reply,
        };
        tracing::debug!(record = %claim.owner.key, error = &first as &dyn std::error::Error,
            "claim failed; retrying with the same token");
        let second = question.ask().await;
        // Another request has the record locked, and that is what the key is known by.
        second.map_err(|error| {
            let is_of_store = matches!(
                error.kind(),
                StoreErrorKind::Unavailable | StoreErrorKind::TimedOut | StoreErrorKind::Refused
            );
            match (first.kind(), error.may_have_happened()) {
                (StoreErrorKind::Busy, false) if is_of_store => first,
                (StoreErrorKind::Busy, true) if is_of_store => first.maybe_executed(),
                _ => error,
            }
        })
    }
}

/// A claim that is being asked for. Where that ends without the claim, also because its runtime ends, a question that got no reply
/// may arrive later.
struct Question<'a> {
    engine: &'a Engine,
    claim: &'a ClaimTerms,
    take_over: Option<u32>,
    asked_at: Instant,
    runtime: Handle,
    is_held: bool,
}

impl Question<'_> {
    async fn ask(&mut self) -> Result<Claim, StoreError> {
        let claimed = self.claim.ask(&self.engine.0.calls, self.take_over).await;
        self.is_held = matches!(claimed, Ok(Claim::Acquired { .. }));
        claimed
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if self.is_held || !self.claim.has_lost_question() {
            return;
        }
        let how = match self.take_over {
            None => How::Release,
            Some(_) => How::Either,
        };
        let given_up = GivenUp::new(self.claim.owner, how);
        let given_up = given_up.may_still_arrive(self.asked_at, self.claim.lease);
        hand_over(self.engine, given_up, &self.runtime);
    }
}

/// A token of its own.
fn new_owner(key: RecordKey) -> std::io::Result<Owner> {
    let token = random::token()?;
    Ok(Owner { key, token })
}
