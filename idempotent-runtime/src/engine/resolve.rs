//! An operator's decision about an abandoned record.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::claim_terms::ClaimTerms;
use super::given_up::{GivenUp, How, give_up, hand_over};
use super::take_over::{GRACE, wait_for_owner};
use super::{Described, Engine, Refusal, random};
use crate::key::RecordKey;
use crate::operator::Resolution;
use crate::record::{Owner, Record, StoredResponse};
use crate::recovery::Recovery;
use crate::store::{Claim, Completion, Release, StoreError};

/// For how long the key of an operator is blocked who is gone before the decision is stored.
const LEASE: Duration = Duration::from_secs(30);

/// A store may round the age of a record.
const SAME: Duration = Duration::from_secs(1);

#[derive(Clone)]
enum Decision {
    Done(Arc<StoredResponse>),
    NotDone,
}

/// Applies a decision about this abandoned record, if it is still as it was read: the attempt is
/// taken over, and then completed or released.
///
/// Must run to its end: see [`Detach`](super::Detach).
pub(crate) async fn resolve(
    engine: &Engine,
    key: RecordKey,
    record: &Record,
    recovery: &Recovery,
    ttl: Duration,
) -> Result<Resolution, Refusal> {
    let decision = match recovery {
        Recovery::Replay(response) => Decision::Done(Arc::new(response.clone())),
        Recovery::Retry => Decision::NotDone,
        Recovery::Unknown => return Ok(Resolution::Undecided),
    };
    let owner = Owner {
        key,
        token: random::token()?,
    };
    let described = Described::new(&*record.operation, record.label.clone());
    let claim = ClaimTerms::new(
        owner,
        record.fingerprint,
        &described,
        LEASE,
        (ttl, engine.0.retention),
    );
    let found = (record.attempt, record.age);
    Ok(take_over(engine, &claim, found, decision).await?)
}

async fn take_over(
    engine: &Engine,
    claim: &ClaimTerms,
    (attempt, age): (u32, Duration),
    decision: Decision,
) -> Result<Resolution, StoreError> {
    // What is freed was claimed at least so long ago. So the next record of this key is told from this one by when it began,
    // also where the owner has abandoned its claim and gets no grace period.
    sleep(GRACE.saturating_sub(age)).await;
    wait_for_owner(engine, &claim.owner.key, attempt).await?;
    let asked_at = Instant::now();
    let asked = engine.ask(claim, Some(attempt)).await;
    // A question that may still arrive makes a new record, or takes over what has crashed by then.
    let late = || {
        let late = GivenUp::new(claim.owner, How::Either);
        late.may_still_arrive(asked_at, claim.lease)
    };
    let leave = |how| {
        let given_up = match claim.has_lost_question() {
            true => late(),
            false => GivenUp::new(claim.owner, how),
        };
        hand_over(engine, given_up, &Handle::current());
    };
    let resolved = match asked? {
        Claim::Acquired(acquired) if acquired.attempt == attempt + 1 => {
            // A younger record is another one: it was freed, claimed and abandoned meanwhile.
            if acquired.age + SAME < age {
                leave(How::Abandon);
                return Ok(Resolution::Changed);
            }
            apply(engine, claim, &decision).await
        }
        Claim::Acquired { .. } => {
            // The record was gone, and this claim has made a new one.
            leave(How::Release);
            return Ok(Resolution::Changed);
        }
        Claim::Completed(response) => return Ok(Resolution::Completed(response)),
        Claim::InFlight { lease_left } => return Ok(Resolution::Running { lease_left }),
        Claim::Abandoned { .. } | Claim::Mismatch => return Ok(Resolution::Changed),
    };
    match (&resolved, decision) {
        // Abandoned again, for another decision.
        (Err(_), _) => leave(How::Abandon),
        (Ok(_), _) if !claim.has_lost_question() => {}
        // The record is there until its TTL has passed.
        (Ok(Resolution::Resolved), Decision::Done(_)) => {
            if let Some(given_up) = late().once_expired(claim.ttl) {
                hand_over(engine, given_up, &Handle::current());
            }
        }
        (Ok(_), _) => leave(How::Either),
    }
    resolved
}

async fn apply(
    engine: &Engine,
    claim: &ClaimTerms,
    decision: &Decision,
) -> Result<Resolution, StoreError> {
    let is_applied = match decision {
        Decision::Done(response) => {
            let complete = engine.0.calls.complete(&claim.owner, response, claim.ttl);
            complete.await? != Completion::Lost
        }
        Decision::NotDone => {
            give_up(engine, &claim.owner, How::Release).await? == Release::Released
        }
    };
    Ok(if is_applied {
        Resolution::Resolved
    } else {
        Resolution::Changed
    })
}
