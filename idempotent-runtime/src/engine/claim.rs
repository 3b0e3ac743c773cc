//! Becoming the attempt that runs, or learning what to answer instead.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::given_up::{GivenUp, How};
use super::held::ClaimedAs;
use super::wait::Waiter;
use super::{
    Answer, DescribeAbandoned, Detach, Engine, Fingerprints, Held, Intent, Outcome, Refusal,
    catch_unwind, random,
};
use crate::key::RecordKey;
use crate::policy::{InFlight, OnAbandoned, Policy};
use crate::record::{Owner, StoredResponse, Token};
use crate::recovery::Recovery;
use crate::store::{Claim, StoreError, StoreErrorKind};

/// What the owner of a claim gets to renew its lease before it is taken over. It does not depend on what this
/// process is set to: another process, with other leases and time-outs, sends a renewal at least each second
/// until one succeeds, and a third of the time is for its way there.
const GRACE: Duration = Duration::from_millis(2_500);

/// A [`Claim`] whose acquisition is already being kept.
#[expect(
    clippy::large_enum_variant,
    reason = "it is moved once, and the large one is what most requests get"
)]
enum Claimed {
    Held(Held),
    Completed(Arc<StoredResponse>),
    InFlight { lease_left: Duration },
    Abandoned { attempt: u32 },
    Mismatch,
}

/// What to do about an abandoned attempt.
enum Decision {
    Refuse,
    Run,
    Settle(Arc<StoredResponse>),
    /// It is no longer what is to be decided about.
    LookAgain,
}

/// The answer that a recovery function has found for one attempt.
struct Settlement {
    attempt: u32,
    response: Arc<StoredResponse>,
}

/// How a request is protected, whatever its record is.
struct Way<'a, 'f> {
    intent: &'a Intent,
    fingerprints: &'a mut Fingerprints<'f>,
    policy: &'a Policy,
    describe: DescribeAbandoned<'a>,
}

impl Way<'_, '_> {
    fn claim(&self, owner: Owner) -> ClaimedAs {
        ClaimedAs::new(
            owner,
            self.fingerprints.current(),
            &self.intent.operation,
            self.policy.lease,
            self.intent.ttl,
        )
    }
}

impl Engine {
    /// A replay that is cached in this process, without asking further.
    pub(crate) fn cached(&self, intent: &Intent) -> Option<Arc<StoredResponse>> {
        let backend = self.0.calls.backend();
        backend.replay(&intent.keys.first(), &intent.fingerprint)
    }

    /// What a first request or a replay comes to in a store in this process, where nothing is waited for.
    /// `None` if there is more to do, and then nothing was done.
    fn enter_in_process(
        &self,
        intent: &Intent,
        policy: &Policy,
    ) -> Option<Result<Outcome, Refusal>> {
        let backend = self.0.calls.backend();
        if !backend.is_in_process() || !intent.keys.others().is_empty() {
            return None;
        }
        // As in `claim_attached`, the token of the tracker comes before the look at the flag.
        let running = self.tasks().token();
        if self.is_closing() {
            return None;
        }
        self.look_after();
        let owner = Owner {
            key: intent.keys.first(),
            token: Token::of_process(),
        };
        let claim = ClaimedAs::new(
            owner,
            intent.fingerprint,
            &intent.operation,
            policy.lease,
            intent.ttl,
        );
        let asked_at = Instant::now();
        match backend.claim_now(&claim.request(self.0.retention, None))? {
            Ok(Claim::Acquired { attempt, age }) => {
                let held = Held::new(self, claim, attempt, age, asked_at, running);
                Some(Ok(Outcome::Run(held)))
            }
            Ok(Claim::Completed(response)) => Some(Ok(Outcome::Replay(response))),
            // There may be more to do about it.
            Ok(Claim::InFlight { .. } | Claim::Abandoned { .. } | Claim::Mismatch) => None,
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
    ) -> Result<Outcome, Refusal> {
        match self.enter_in_process(intent, policy) {
            Some(entered) => entered,
            // Boxed: with the store in this process few requests have to make room for it.
            None => Box::pin(self.enter_records(intent, fingerprints, policy, describe)).await,
        }
    }

    async fn enter_records(
        &self,
        intent: &Intent,
        mut fingerprints: Fingerprints<'_>,
        policy: &Policy,
        describe: DescribeAbandoned<'_>,
    ) -> Result<Outcome, Refusal> {
        let mut waiter = Waiter::new(policy);
        loop {
            let mut way = Way {
                intent,
                fingerprints: &mut fingerprints,
                policy,
                describe,
            };
            let mut key = intent.keys.first();
            let mut outcome = self.enter_record(key, &mut way).await?;
            for alias in intent.keys.others() {
                let Outcome::Run(held) = outcome else { break };
                key = *alias;
                outcome = self.enter_alias(held, key, &mut way).await?;
            }
            let Outcome::InFlight { lease_left } = outcome else {
                if let Outcome::Replay(response) = &outcome {
                    self.copy_to_aliases(intent, key, response, policy).await;
                }
                return Ok(outcome);
            };
            if policy.in_flight == InFlight::Wait {
                fingerprints.matched();
            }
            if !waiter.wait(&self.0.watches, &key, lease_left).await {
                return Ok(Outcome::InFlight { lease_left });
            }
        }
    }

    /// The request has its record, and needs the one that instances with another secret know it by. What
    /// they have done counts, and is what this instance's record says from now on.
    async fn enter_alias(
        &self,
        mut held: Held,
        alias: RecordKey,
        way: &mut Way<'_, '_>,
    ) -> Result<Outcome, Refusal> {
        let other = match self.enter_record(alias, way).await {
            Ok(Outcome::Run(alias)) => {
                held.add_alias(alias);
                return Ok(Outcome::Run(held));
            }
            other => other,
        };
        Detach::new(self.tasks(), async move {
            if let Ok(Outcome::Replay(response)) = &other {
                held.begin();
                held.store(Arc::clone(response)).await;
            } else {
                held.release().await;
            }
            other
        })
        .await
    }

    /// The other records of a request say what this one says: for instances that know only another secret.
    /// What fails is tried again at the next replay.
    async fn copy_to_aliases(
        &self,
        intent: &Intent,
        found: RecordKey,
        response: &Arc<StoredResponse>,
        policy: &Policy,
    ) {
        for alias in intent.keys.iter().filter(|key| **key != found) {
            let mut take_over = None;
            for _ in 0..2 {
                let Ok(owner) = new_owner(*alias) else {
                    return;
                };
                let claim = ClaimedAs::new(
                    owner,
                    intent.fingerprint,
                    &intent.operation,
                    policy.lease,
                    intent.ttl,
                );
                match self.claim(claim, take_over).await {
                    Ok(Claimed::Held(mut held)) => {
                        let response = Arc::clone(response);
                        Detach::new(self.tasks(), async move {
                            held.begin();
                            held.store(response).await;
                        })
                        .await;
                        break;
                    }
                    Ok(Claimed::Abandoned { attempt }) => take_over = Some(attempt),
                    _ => break,
                }
            }
        }
    }

    /// As [`enter`](Self::enter) for one record, without waiting.
    async fn enter_record(
        &self,
        key: RecordKey,
        way: &mut Way<'_, '_>,
    ) -> Result<Outcome, Refusal> {
        let (mut take_over, mut waited_for) = (None, None);
        let mut settlement = None;
        loop {
            // A new one each time: the last one may have to be given up in the background.
            let claim = way.claim(new_owner(key)?);
            match self.claim(claim, take_over.take()).await? {
                Claimed::Held(held) => return Ok(self.run_or_settle(held, settlement).await),
                Claimed::Completed(response) => return Ok(Outcome::Replay(response)),
                Claimed::InFlight { lease_left } => return Ok(Outcome::InFlight { lease_left }),
                Claimed::Mismatch => {
                    if !way.fingerprints.mismatched() {
                        return Ok(Outcome::Mismatch);
                    }
                }
                Claimed::Abandoned { attempt } => {
                    way.fingerprints.matched();
                    settlement = None;
                    let (policy, describe) = (way.policy, way.describe);
                    let may_be_taken_over = !matches!(policy.on_abandoned, OnAbandoned::Reject);
                    if may_be_taken_over && waited_for != Some(attempt) {
                        let claim = way.claim(new_owner(key)?);
                        self.wait_before_take_over(claim, attempt).await?;
                        waited_for = Some(attempt);
                    }
                    let claim = way.claim(new_owner(key)?);
                    match self.decide(claim, policy, describe, attempt).await? {
                        Decision::Refuse => return Ok(Outcome::Unknown),
                        Decision::Run => take_over = Some(attempt),
                        Decision::Settle(response) => {
                            settlement = Some(Settlement { attempt, response });
                            take_over = Some(attempt);
                        }
                        Decision::LookAgain => {}
                    }
                }
            }
        }
    }

    /// Lets the owner of an abandoned claim renew its lease, before another attempt takes over.
    ///
    /// That a lease has ended does not prove a crash: the store may have been out, or have taken no
    /// writes, or the record may have been locked, for longer than the lease, and its owner be alive. What
    /// this process has seen of that says nothing about it. So the owner is given one last lease, which
    /// is a write to this record: from then on a renewal can succeed, and an owner that is alive has tried
    /// by the end of it.
    pub(super) async fn wait_for_owner(
        &self,
        key: &RecordKey,
        attempt: u32,
    ) -> Result<(), StoreError> {
        let calls = &self.0.calls;
        if calls
            .give_grace(key, attempt, GRACE, self.0.retention)
            .await?
        {
            tracing::debug!(record = %key, attempt,
                "a lease has ended, waiting for its owner before taking over");
            sleep(GRACE).await;
        }
        Ok(())
    }

    /// As [`wait_for_owner`](Self::wait_for_owner), for a caller that may leave before the end. What it has waited
    /// for is then not lost: the attempt is taken over, and abandoned without a token, so that the next
    /// request has nothing to wait for. Otherwise clients that are less patient than the grace period would
    /// begin it again and again, and none would get an answer.
    async fn wait_before_take_over(
        &self,
        claim: ClaimedAs,
        attempt: u32,
    ) -> Result<(), StoreError> {
        let (engine, here) = (self.clone(), Arc::new(()));
        let caller = Arc::downgrade(&here);
        Detach::new(self.tasks(), async move {
            engine.wait_for_owner(&claim.owner.key, attempt).await?;
            if caller.upgrade().is_none()
                && let Ok(Claimed::Held(held)) = engine.claim_attached(claim, Some(attempt)).await
            {
                held.abandon().await;
            }
            Ok(())
        })
        .await
    }

    async fn run_or_settle(&self, mut held: Held, settlement: Option<Settlement>) -> Outcome {
        // Of another attempt than the one that was taken over nothing has been found.
        let Some(found) = settlement.filter(|found| held.attempt() == found.attempt + 1) else {
            return Outcome::Run(held);
        };
        Detach::new(self.tasks(), async move {
            held.begin();
            match held.store(Arc::clone(&found.response)).await {
                Answer::Own => Outcome::Replay(found.response),
                Answer::Stored(stored) => Outcome::Replay(stored),
                Answer::InFlight { lease_left } => Outcome::InFlight { lease_left },
                Answer::Unknown => Outcome::Unknown,
            }
        })
        .await
    }

    async fn claim(&self, claim: ClaimedAs, take_over: Option<u32>) -> Result<Claimed, Refusal> {
        let engine = self.clone();
        Detach::new(self.tasks(), async move {
            engine.claim_attached(claim, take_over).await
        })
        .await
    }

    /// Must run to its end: a claim that happened is either kept or released.
    async fn claim_attached(
        self,
        claim: ClaimedAs,
        take_over: Option<u32>,
    ) -> Result<Claimed, Refusal> {
        // The token comes before the look at the flag, so that a shutdown that was not seen here
        // sees the token and waits.
        let running = self.tasks().token();
        if self.is_closing() {
            let keys = crate::key::KeySet::new(claim.owner.key, None);
            let is_this_request = |fingerprint| fingerprint == claim.fingerprint;
            return match self.peek(&keys, is_this_request).await {
                Some(stored) => Ok(Claimed::Completed(stored)),
                None => Err(Refusal::ShuttingDown),
            };
        }
        self.look_after();
        let asked_at = Instant::now();
        Ok(match self.ask(&claim, take_over).await? {
            Claim::Acquired { attempt, age } => {
                let held = Held::new(&self, claim, attempt, age, asked_at, running);
                Claimed::Held(held)
            }
            Claim::Completed(response) => Claimed::Completed(response),
            Claim::InFlight { lease_left } => Claimed::InFlight { lease_left },
            Claim::Abandoned { attempt, .. } => Claimed::Abandoned { attempt },
            Claim::Mismatch => Claimed::Mismatch,
        })
    }

    /// Asks the policy, or the application's recovery function: that one is told what the attempt has
    /// finished, or is not asked at all.
    ///
    /// The function runs to its end although its caller leaves. What it has found is then stored under this
    /// claim: otherwise clients that are less patient than the function would each begin it again.
    async fn decide(
        &self,
        claim: ClaimedAs,
        policy: &Policy,
        describe: DescribeAbandoned<'_>,
        attempt: u32,
    ) -> Result<Decision, Refusal> {
        let recover = match policy.on_abandoned {
            OnAbandoned::Reject => return Ok(Decision::Refuse),
            OnAbandoned::Retry => return Ok(Decision::Run),
            OnAbandoned::Recover(recover) => recover,
        };
        let key = claim.owner.key;
        let Some(crashed) = self.crashed(&key, attempt).await? else {
            return Ok(Decision::LookAgain);
        };
        let (abandoned, engine, here) = (describe(crashed), self.clone(), Arc::new(()));
        let caller = Arc::downgrade(&here);
        Ok(Detach::new(self.tasks(), async move {
            let recovered = catch_unwind(async move { recover(abandoned).await }).await;
            let response = match recovered {
                Ok(Recovery::Replay(response)) => Arc::new(response),
                Ok(Recovery::Retry) => return Decision::Run,
                Ok(Recovery::Unknown) => return Decision::Refuse,
                Err(_) => {
                    tracing::error!(record = %key, attempt,
                        "recovery function panicked, outcome stays unknown");
                    return Decision::Refuse;
                }
            };
            if caller.upgrade().is_none()
                && let Ok(Claimed::Held(held)) =
                    engine.clone().claim_attached(claim, Some(attempt)).await
            {
                let response = Arc::clone(&response);
                let found = Settlement { attempt, response };
                // Of another attempt nothing was found: what is left over here is abandoned.
                if let Outcome::Run(held) = engine.run_or_settle(held, Some(found)).await {
                    held.abandon().await;
                }
            }
            Decision::Settle(response)
        })
        .await)
    }

    /// Asks twice when a reply was lost or something was in the way: the token makes the second question
    /// the same claim.
    ///
    /// A question that got no reply may arrive at any time after this. Unless the claim is held by then,
    /// its token is given up in the background, whatever the second answer was: it must not be used
    /// again.
    pub(super) async fn ask(
        &self,
        claim: &ClaimedAs,
        take_over: Option<u32>,
    ) -> Result<Claim, StoreError> {
        let (calls, retention) = (&self.0.calls, self.0.retention);
        let asked_at = Instant::now();
        let first = match claim.ask(calls, retention, take_over).await {
            Err(error) if error.may_have_happened() || error.kind() == StoreErrorKind::Busy => {
                error
            }
            reply => return reply,
        };
        tracing::debug!(record = %claim.owner.key, error = &first as &dyn std::error::Error,
            "claim failed, asking again with the same token");
        let second = claim.ask(calls, retention, take_over).await;
        if claim.has_lost_question() && !matches!(second, Ok(Claim::Acquired { .. })) {
            let how = match take_over {
                None => How::Release,
                Some(_) => How::Either,
            };
            let given_up = GivenUp::new(claim.owner, how).may_still_arrive(asked_at, claim.lease);
            self.hand_over(given_up, &Handle::current());
        }
        second
    }
}

/// A token of its own.
fn new_owner(key: RecordKey) -> std::io::Result<Owner> {
    let token = random::token()?;
    Ok(Owner { key, token })
}
