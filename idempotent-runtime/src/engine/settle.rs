//! An operator's decision about an abandoned record.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{Detach, Engine, Refusal};
use crate::key::RecordKey;
use crate::operator::Resolution;
use crate::record::{Owner, Record, StoredResponse, Token};
use crate::recovery::Recovery;
use crate::store::{Claim, ClaimRequest, Completion, Release, StoreError};

/// For how long the key of an operator is blocked who is gone between the two steps of a settlement.
const LEASE: Duration = Duration::from_secs(30);

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
        recovery: Recovery,
        ttl: Duration,
    ) -> Result<Resolution, Refusal> {
        let decision = match recovery {
            Recovery::Replay(response) => Decision::Done(Arc::new(response)),
            Recovery::Retry => Decision::NotDone,
            Recovery::Unknown => return Ok(Resolution::Undecided),
        };
        let token = Token::random()?;
        let ttl = ttl.max(record.expires_in);
        let request = ClaimRequest {
            owner: Owner { key, token },
            fingerprint: record.fingerprint,
            lease: LEASE.min(ttl),
            ttl,
            take_over: Some(record.attempt),
        };
        let (engine, attempt) = (self.clone(), record.attempt);
        Detach::new(self.tasks(), async move {
            let settled = engine.settle_attached(&request, attempt, decision).await;
            settled.map_err(Refusal::Store)
        })
        .await
    }

    async fn settle_attached(
        self,
        request: &ClaimRequest,
        attempt: u32,
        decision: Decision,
    ) -> Result<Resolution, StoreError> {
        let _running = self.tasks().token();
        let asked_at = Instant::now();
        let (claim, is_unheard) = self.ask(request, asked_at).await?;
        let give_up = |is_first| {
            let late_until = is_unheard.then_some(asked_at + request.lease);
            self.give_up_in_background(
                request.owner,
                is_first,
                asked_at + request.ttl,
                late_until,
                &Handle::current(),
            );
        };
        let settled = match claim {
            Claim::Acquired { attempt: next, .. } if next == attempt + 1 => {
                self.apply(&request.owner, &decision).await
            }
            Claim::Acquired { .. } => {
                // The record was gone, and this claim has made a new one.
                give_up(true);
                return Ok(Resolution::Changed);
            }
            Claim::Completed(response) => return Ok(Resolution::Completed(response)),
            Claim::InFlight { lease_left } => return Ok(Resolution::Running { lease_left }),
            Claim::Abandoned { .. } | Claim::Mismatch => return Ok(Resolution::Changed),
        };
        match (&settled, decision) {
            // Abandoned again, for somebody else to settle.
            (Err(_), _) => give_up(false),
            // The key is free: of a claim that may still arrive nobody must take notice.
            (Ok(_), Decision::NotDone) if is_unheard => give_up(true),
            (Ok(_), _) => {}
        }
        settled
    }

    async fn apply(&self, owner: &Owner, decision: &Decision) -> Result<Resolution, StoreError> {
        let is_applied = match decision {
            Decision::Done(response) => {
                let complete = self.store().complete(owner, response);
                self.timed(complete).await? != Completion::Lost
            }
            Decision::NotDone => {
                let release = self.store().release(owner);
                self.timed(release).await? == Release::Released
            }
        };
        Ok(if is_applied {
            Resolution::Resolved
        } else {
            Resolution::Changed
        })
    }

    pub(crate) async fn forget(&self, key: &RecordKey) -> Result<bool, StoreError> {
        self.timed(self.store().remove(key)).await
    }
}
