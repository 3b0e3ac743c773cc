//! Taking over an abandoned claim: the grace period of its owner, and the decision of the policy.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::abandoned::{DescribeAbandoned, crashed};
use super::claim_terms::ClaimTerms;
use super::recoveries::Deciding;
use super::wait::SHORTEST_POLL;
use super::{ClaimGuard, Detach, Engine, Refusal};
use crate::key::{KeySet, RecordKey};
use crate::keyed::Entry;
use crate::policy::{OnAbandoned, Policy};
use crate::record::{RecordState, StoredResponse};
use crate::recovery::Recovery;
use crate::store::{Claim, StoreError};
use crate::unwind::catch_unwind;

/// What the owner of a claim gets to renew its lease before it is taken over. It does not depend on what this
/// process is set to: another process, with other leases and timeouts, sends a renewal at least each second
/// until one succeeds, and a third of the time is for its way there.
pub(super) const GRACE: Duration = Duration::from_millis(2_500);

/// What to do about an abandoned attempt.
pub(super) struct Decided {
    pub(super) decision: Decision,
    /// No other function decides about the record until this decision is applied: a grace period that began for it would
    /// hold that up.
    pub(super) until_applied: Option<Arc<Entry<Deciding>>>,
}

pub(super) enum Decision {
    Refuse,
    Run,
    Complete(Arc<StoredResponse>),
    /// Its owner, or another attempt, has answered meanwhile.
    Answer(Arc<StoredResponse>),
    /// It is no longer what is to be decided about.
    LookAgain,
}

impl From<Decision> for Decided {
    fn from(decision: Decision) -> Self {
        Self {
            decision,
            until_applied: None,
        }
    }
}

/// The answer that a recovery function has found for one attempt.
pub(super) struct Finding {
    pub(super) attempt: u32,
    pub(super) response: Arc<StoredResponse>,
}

/// When the record that is decided about began: a key that was freed meanwhile has another one, whose attempts are
/// numbered from 1 again.
#[derive(Clone, Copy)]
pub(super) struct Began {
    age: Duration,
    seen_at: Instant,
}

impl Began {
    /// How far two reckonings of one age may differ. No record is freed within the grace period, which is longer.
    const SAME: Duration = Duration::from_secs(2);

    /// Of a record of that age now.
    pub(super) fn of(age: Duration) -> Self {
        let seen_at = Instant::now();
        Self { age, seen_at }
    }

    /// Whether the record of this claim began later.
    pub(super) fn is_before(&self, held: &ClaimGuard) -> bool {
        let age = self.age + (held.claimed_at() - self.seen_at);
        held.age_when_claimed() + Self::SAME < age
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
    engine: &Engine,
    key: &RecordKey,
    attempt: u32,
) -> Result<(), StoreError> {
    let calls = &engine.0.calls;
    if calls
        .give_grace(key, attempt, GRACE, engine.0.retention)
        .await?
    {
        tracing::debug!(record = %key, attempt,
            "lease expired; waiting out the owner's grace period before the take-over");
        sleep(GRACE).await;
    }
    Ok(())
}

/// Waits for something, and says which answer the record has had meanwhile.
///
/// It is looked at so often that none can come and expire unseen: to a request that was there before it, a key whose response has
/// expired is not a new one.
async fn watching<T>(
    engine: &Engine,
    claim: &ClaimTerms,
    wait: impl Future<Output = T>,
) -> (T, Option<Arc<StoredResponse>>) {
    let pause = (claim.ttl / 4).max(SHORTEST_POLL);
    let answer = async {
        loop {
            sleep(pause).await;
            if let Ok(Some(record)) = engine.read(&claim.owner.key).await
                && let RecordState::Completed(response) = record.state
                && record.fingerprint == claim.fingerprint
            {
                return response;
            }
        }
    };
    let (mut wait, mut answer, mut seen) = (pin!(wait), pin!(answer), None);
    loop {
        tokio::select! {
            biased;
            done = &mut wait => return (done, seen),
            response = &mut answer, if seen.is_none() => seen = Some(response),
        }
    }
}

/// As [`wait_for_owner`], for a caller that may leave before the end; and the answer that came meanwhile. What it has waited
/// for is then not lost: the attempt is taken over, and abandoned without a token, so that the next
/// request has nothing to wait for. Otherwise clients that are less patient than the grace period would
/// begin it again and again, and none would get an answer.
pub(super) async fn wait_before_take_over(
    engine: &Engine,
    claim: ClaimTerms,
    attempt: u32,
) -> Result<Option<Arc<StoredResponse>>, StoreError> {
    let (owned, here) = (engine.clone(), Arc::new(()));
    let caller = Arc::downgrade(&here);
    Detach::new(engine.tasks(), async move {
        let waiting = wait_for_owner(&owned, &claim.owner.key, attempt);
        let (waited, answer) = watching(&owned, &claim, waiting).await;
        waited?;
        if answer.is_some() {
            return Ok(answer);
        }
        if caller.upgrade().is_none()
            && let Ok(Claim::Acquired(held)) = owned.claim_attached(claim, Some(attempt)).await
        {
            held.withdraw().await;
        }
        Ok(None)
    })
    .await
}

pub(super) async fn run_or_complete(
    engine: &Engine,
    mut held: Box<ClaimGuard>,
    finding: Option<Finding>,
) -> Claim<Box<ClaimGuard>> {
    // Of another attempt than the one that was taken over nothing has been found. Where the record is gone there is no
    // other one, and what has happened must not happen again.
    let is_of_last = |found: &Finding| [1, found.attempt + 1].contains(&held.attempt());
    let Some(found) = finding.filter(is_of_last) else {
        return Claim::Acquired(held);
    };
    Detach::new(engine.tasks(), async move {
        held.begin();
        let answer = held.store(Arc::clone(&found.response)).await;
        answer.and_then(|_| Claim::Completed(found.response))
    })
    .await
}

/// Asks the policy, or the application's recovery function: that one is told what the attempt has
/// finished, or is not asked at all.
///
/// The function runs to its end although its caller leaves, and no other is begun for the record meanwhile. What it has
/// found is then stored under this claim: otherwise clients that are less patient than the function would each begin it again.
pub(super) async fn decide(
    engine: &Engine,
    claim: ClaimTerms,
    (keys, attempt): (&KeySet, u32),
    policy: &Policy,
    describe: DescribeAbandoned<'_>,
) -> Result<Decided, Refusal> {
    let recover = match policy.on_abandoned {
        OnAbandoned::Reject => return Ok(Decision::Refuse.into()),
        OnAbandoned::Retry => return Ok(Decision::Run.into()),
        OnAbandoned::Recover(recover) => recover,
    };
    let key = claim.owner.key;
    let Some(deciding) = engine.0.calls.recoveries().begin(&key) else {
        return Ok(Decision::LookAgain.into());
    };
    let Some(crashed) = crashed(engine, keys, &key, attempt).await? else {
        return Ok(Decision::LookAgain.into());
    };
    let (abandoned, owned, here) = (describe(crashed), engine.clone(), Arc::new(()));
    let caller = Arc::downgrade(&here);
    Ok(Detach::new(engine.tasks(), async move {
        let until_applied = |decision| Decided {
            decision,
            until_applied: Some(deciding),
        };
        let recovering = catch_unwind(async move { recover(abandoned).await });
        let (recovered, answer) = watching(&owned, &claim, recovering).await;
        if let Some(answer) = answer {
            return Decision::Answer(answer).into();
        }
        let response = match recovered {
            Ok(Recovery::Replay(response)) => Arc::new(response),
            Ok(Recovery::Retry) => return until_applied(Decision::Run),
            Ok(Recovery::Unknown) => return Decision::Refuse.into(),
            Err(_) => {
                tracing::error!(record = %key, attempt,
                    "recovery function panicked; the outcome stays unknown");
                return Decision::Refuse.into();
            }
        };
        if caller.upgrade().is_none()
            && let Ok(Claim::Acquired(held)) =
                owned.clone().claim_attached(claim, Some(attempt)).await
        {
            let response = Arc::clone(&response);
            let found = Finding { attempt, response };
            // Of another attempt nothing was found: what is left over here is abandoned.
            if let Claim::Acquired(held) = run_or_complete(&owned, held, Some(found)).await {
                held.withdraw().await;
            }
        }
        until_applied(Decision::Complete(response))
    })
    .await)
}
