//! An operator's decision about an abandoned record.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::given_up::{GivenUp, How};
use super::held::ClaimedAs;
use super::{Described, Detach, Engine, Refusal, random};
use crate::key::RecordKey;
use crate::operator::Resolution;
use crate::record::{Owner, Record, StoredResponse};
use crate::recovery::Recovery;
use crate::store::{Claim, Completion, Release, StoreError};

/// For how long the key of an operator is blocked who is gone between the two steps of a settlement.
const LEASE: Duration = Duration::from_secs(30);

#[derive(Clone)]
enum Decision {
    Done(Arc<StoredResponse>),
    NotDone,
}

impl Engine {
    /// Applies a decision about this abandoned record, if it is still as it was read: the attempt is
    /// taken over, and then completed or released.
    ///
    /// Dropping the returned future is safe at every point.
    pub(crate) async fn settle(
        &self,
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
        let described =
            Described::from(Arc::clone(&record.operation)).with_label(record.label.clone());
        let claim = ClaimedAs::new(owner, record.fingerprint, &described, LEASE, ttl);
        let (engine, attempt) = (self.clone(), record.attempt);
        Detach::new(self.tasks(), async move {
            let settled = engine.settle_attached(&claim, attempt, decision).await;
            settled.map_err(Refusal::Store)
        })
        .await
    }

    async fn settle_attached(
        self,
        claim: &ClaimedAs,
        attempt: u32,
        decision: Decision,
    ) -> Result<Resolution, StoreError> {
        let _running = self.tasks().token();
        self.wait_for_owner(&claim.owner.key, attempt).await?;
        let asked_at = Instant::now();
        let asked = self.ask(claim, Some(attempt)).await;
        let give_up = |how| {
            let given_up = GivenUp::new(claim.owner, how);
            let given_up = if claim.has_lost_question() {
                given_up.may_still_arrive(asked_at, claim.lease)
            } else {
                given_up
            };
            self.hand_over(given_up, &Handle::current());
        };
        let settled = match asked? {
            Claim::Acquired { attempt: next, .. } if next == attempt + 1 => {
                self.apply(claim, &decision).await
            }
            Claim::Acquired { .. } => {
                // The record was gone, and this claim has made a new one.
                give_up(How::Release);
                return Ok(Resolution::Changed);
            }
            Claim::Completed(response) => return Ok(Resolution::Completed(response)),
            Claim::InFlight { lease_left } => return Ok(Resolution::Running { lease_left }),
            Claim::Abandoned { .. } | Claim::Mismatch => return Ok(Resolution::Changed),
        };
        match (&settled, decision) {
            // Abandoned again, for another decision.
            (Err(_), _) if claim.has_lost_question() => give_up(How::Either),
            (Err(_), _) => give_up(How::Abandon),
            // The key is free: a claim that may still arrive must not hold it, and takes over what has
            // crashed meanwhile, if anything has.
            (Ok(_), Decision::NotDone) if claim.has_lost_question() => give_up(How::Either),
            (Ok(_), _) => {}
        }
        settled
    }

    async fn apply(
        &self,
        claim: &ClaimedAs,
        decision: &Decision,
    ) -> Result<Resolution, StoreError> {
        let is_applied = match decision {
            Decision::Done(response) => {
                let complete = self.0.calls.complete(&claim.owner, response, claim.ttl);
                complete.await? != Completion::Lost
            }
            Decision::NotDone => {
                self.give_up(&claim.owner, How::Release).await? == Release::Released
            }
        };
        Ok(if is_applied {
            Resolution::Resolved
        } else {
            Resolution::Changed
        })
    }

    pub(crate) async fn forget(&self, key: &RecordKey) -> Result<bool, StoreError> {
        self.0.calls.remove(key).await
    }
}
