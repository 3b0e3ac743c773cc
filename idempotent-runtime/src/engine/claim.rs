//! Becoming the one who runs, or learning what to answer instead.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::wait::Waiter;
use super::{
    Answer, DescribeAbandoned, Detach, Engine, Fingerprints, Held, Intent, Outcome, Refusal,
    catch_unwind,
};
use crate::key::RecordKey;
use crate::policy::{InFlight, OnAbandoned, Policy};
use crate::record::{Owner, StoredResponse, Token};
use crate::recovery::Recovery;
use crate::store::{Claim, ClaimRequest, StoreError};

/// A [`Claim`] whose acquisition is already being kept.
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

impl Engine {
    /// A replay that this process has at hand, without asking further.
    pub(crate) fn kept(&self, intent: &Intent) -> Option<Arc<StoredResponse>> {
        self.store().kept(&intent.key, &intent.fingerprint)
    }

    /// What a first request or a replay comes to, where that takes no waiting: from a store in this
    /// process. `None` sends the caller to [`enter`](Self::enter), and nothing was done.
    pub(crate) fn enter_now(
        &self,
        intent: Intent,
        policy: &Policy,
    ) -> Option<Result<Outcome, Refusal>> {
        let store = self.store().in_process()?;
        // As in `claim_attached`, the token of the tracker comes before the look at the flag.
        let running = self.tasks().token();
        if self.is_closing() {
            return None;
        }
        self.0.sweeper.run(self.store());
        let request = claim_request(intent, policy, Token::of_process(), None);
        let asked_at = Instant::now();
        match store.claim_now(&request) {
            Ok(Claim::Acquired { attempt, age }) => {
                let held = Held::new(self, &request, attempt, age, asked_at, running);
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
        key: RecordKey,
        mut fingerprints: Fingerprints<'_>,
        policy: &Policy,
        describe: DescribeAbandoned<'_>,
    ) -> Result<Outcome, Refusal> {
        let token = Token::random()?;
        let mut waiter = Waiter::new(policy);
        let mut take_over = None;
        let mut settlement = None;
        loop {
            let intent = Intent {
                key,
                fingerprint: fingerprints.current(),
            };
            match self.claim(intent, policy, token, take_over.take()).await? {
                Claimed::Held(held) => return Ok(self.run_or_settle(held, settlement).await),
                Claimed::Completed(response) => return Ok(Outcome::Replay(response)),
                Claimed::Mismatch => {
                    if !fingerprints.mismatched() {
                        return Ok(Outcome::Mismatch);
                    }
                }
                Claimed::InFlight { lease_left } => {
                    if policy.in_flight == InFlight::Wait {
                        fingerprints.matched();
                    }
                    if !waiter.wait(&self.0.watches, &key, lease_left).await {
                        return Ok(Outcome::InFlight { lease_left });
                    }
                }
                Claimed::Abandoned { attempt } => {
                    fingerprints.matched();
                    settlement = None;
                    match self.decide(key, policy, describe, attempt).await? {
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

    async fn run_or_settle(&self, mut held: Held, settlement: Option<Settlement>) -> Outcome {
        // Of another attempt than the one that was taken over nothing has been found.
        let Some(found) = settlement.filter(|found| held.attempt() == found.attempt + 1) else {
            return Outcome::Run(held);
        };
        Detach::new(self.tasks(), async move {
            held.begin();
            match held.complete(Arc::clone(&found.response)).await {
                Answer::Own => Outcome::Replay(found.response),
                Answer::Stored(stored) => Outcome::Replay(stored),
                Answer::InFlight { lease_left } => Outcome::InFlight { lease_left },
                Answer::Unknown => Outcome::Unknown,
            }
        })
        .await
    }

    async fn claim(
        &self,
        intent: Intent,
        policy: &Policy,
        token: Token,
        take_over: Option<u32>,
    ) -> Result<Claimed, Refusal> {
        let request = claim_request(intent, policy, token, take_over);
        let engine = self.clone();
        Detach::new(self.tasks(), async move {
            engine.claim_attached(&request).await
        })
        .await
    }

    /// Must run to its end: a claim that happened is either kept or released.
    async fn claim_attached(self, request: &ClaimRequest) -> Result<Claimed, Refusal> {
        // The token comes before the look at the flag, so that a shutdown that was not seen here
        // sees the token and waits.
        let running = self.tasks().token();
        if self.is_closing() {
            let is_this_request = |fingerprint| fingerprint == request.fingerprint;
            return match self.peek(request.owner.key, is_this_request).await {
                Some(stored) => Ok(Claimed::Completed(stored)),
                None => Err(Refusal::ShuttingDown),
            };
        }
        self.0.sweeper.run(self.store());
        let asked_at = Instant::now();
        let (claim, is_unheard) = self.ask(request, asked_at).await?;
        match claim {
            Claim::Acquired { attempt, age } => {
                let held = Held::new(&self, request, attempt, age, asked_at, running);
                Ok(Claimed::Held(held.unheard(is_unheard)))
            }
            Claim::Completed(response) => Ok(Claimed::Completed(response)),
            Claim::InFlight { lease_left } => Ok(Claimed::InFlight { lease_left }),
            Claim::Abandoned { attempt, .. } => Ok(Claimed::Abandoned { attempt }),
            Claim::Mismatch => Ok(Claimed::Mismatch),
        }
    }

    /// Asks the policy, or the application's recovery function: that one is told what the attempt has
    /// finished, or is not asked at all.
    async fn decide(
        &self,
        key: RecordKey,
        policy: &Policy,
        describe: DescribeAbandoned<'_>,
        attempt: u32,
    ) -> Result<Decision, Refusal> {
        let recover = match policy.on_abandoned {
            OnAbandoned::Reject => return Ok(Decision::Refuse),
            OnAbandoned::Retry => return Ok(Decision::Run),
            OnAbandoned::Recover(recover) => recover,
        };
        let Some(crashed) = self.crashed(&key, attempt).await? else {
            return Ok(Decision::LookAgain);
        };
        let abandoned = describe(crashed);
        Ok(
            match catch_unwind(async move { recover(abandoned).await }).await {
                Ok(Recovery::Replay(response)) => Decision::Settle(Arc::new(response)),
                Ok(Recovery::Retry) => Decision::Run,
                Ok(Recovery::Unknown) => Decision::Refuse,
                Err(_) => {
                    tracing::error!(record = %key, attempt,
                        "recovery function panicked, outcome stays unknown");
                    Decision::Refuse
                }
            },
        )
    }

    /// Asks twice when a reply was lost: the token makes the second question the same claim. If
    /// that is of no help either, what may have been claimed is given up. Says also whether a first
    /// question is unheard of, and may be on its way still.
    pub(super) async fn ask(
        &self,
        request: &ClaimRequest,
        asked_at: Instant,
    ) -> Result<(Claim, bool), StoreError> {
        let first = match self.timed(self.store().claim(request)).await {
            Err(error) if error.may_have_happened() => error,
            reply => return reply.map(|claim| (claim, false)),
        };
        tracing::debug!(record = %request.owner.key, error = &first as &dyn std::error::Error,
            "no reply to a claim, asking again");
        let second = self.timed(self.store().claim(request)).await;
        if second.is_err() {
            let (owner, is_first) = (request.owner, request.take_over.is_none());
            self.give_up_in_background(
                owner,
                is_first,
                asked_at + request.ttl,
                Some(asked_at + request.lease),
                &Handle::current(),
            );
        }
        second.map(|claim| (claim, true))
    }
}

fn claim_request(
    intent: Intent,
    policy: &Policy,
    token: Token,
    take_over: Option<u32>,
) -> ClaimRequest {
    ClaimRequest {
        owner: Owner {
            key: intent.key,
            token,
        },
        fingerprint: intent.fingerprint,
        lease: policy.lease(),
        ttl: policy.ttl(),
        take_over,
    }
}
