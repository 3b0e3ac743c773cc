//! Whether the instances on one store share a secret.
//!
//! Two instances with different secrets have different records for one key, so each would run it. They
//! cannot see each other's records, but a record that is made without a secret they both see: it holds a
//! check value of each secret that an instance has, and each instance looks at it when it starts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::calls::Calls;
use super::claim_terms::ClaimTerms;
use super::pauses::jittered;
use super::periodic::{Periodic, Rounds};
use super::random;
use super::{Described, Engine};
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::policy::Policy;
use crate::record::{Owner, RecordState, StoredResponse};
use crate::store::{Claim, StoreError};

/// The operation of the record.
const OPERATION: &str = "idempotent: check values of secrets";

/// How long an instance that dies in the middle of it keeps others from writing the record.
const LEASE: Duration = Duration::from_secs(30);

/// After how long it is compared again at most, where it could not be.
const PAUSE: Duration = Duration::from_secs(60);

/// What an instance's secrets are known by.
#[derive(Clone, Debug)]
pub(crate) struct CheckValues {
    /// The record that all instances of one namespace share.
    pub(crate) key: RecordKey,
    /// One for each secret, the current one last. Nothing can be learned from them.
    pub(crate) values: Vec<[u8; 32]>,
}

/// What the record says about this instance.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Shared,
    /// Shared, and this instance's list is the newer one.
    Outdated,
    Different,
    /// Another instance is writing the record, or was stopped while it did.
    Unwritten,
}

/// Compares once.
#[derive(Debug)]
pub(super) struct Secrets {
    values: Option<CheckValues>,
    comparing: Periodic,
}

impl Secrets {
    pub(super) fn new(values: Option<CheckValues>) -> Self {
        Self {
            values,
            comparing: Periodic::new(PAUSE),
        }
    }

    /// Without a runtime it is done by the first claim.
    pub(super) fn check(&self, calls: &Calls, now: Instant) {
        if let Some(values) = &self.values {
            let check = |rounds| check(rounds, values.clone());
            self.comparing.run(calls, now, check);
        }
    }

    pub(super) fn stop(&self) {
        self.comparing.stop();
    }
}

async fn check(rounds: Rounds, own: CheckValues) {
    let mut pause = Duration::ZERO;
    while let Some(calls) = rounds.next(pause).await {
        match compare(&calls, &own).await {
            Ok(Verdict::Different) => {
                tracing::error!(
                    "other instances on this store share no secret with this one: a request that reaches both runs twice; set `IdempotencyBuilder::previous_secrets`, or use another namespace"
                );
                return rounds.are_the_last();
            }
            Ok(Verdict::Shared | Verdict::Outdated) => return rounds.are_the_last(),
            Ok(Verdict::Unwritten) => {}
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "could not find out whether the instances on this store share a secret; retrying later"
            ),
        }
        pause = jittered(PAUSE);
    }
}

/// Whether one of these secrets is among those of the instances on the store; `None` where no instance has left a check
/// value. Writes nothing.
pub(crate) async fn is_shared(
    engine: &Engine,
    own: &CheckValues,
) -> Result<Option<bool>, StoreError> {
    let record = engine.read(&own.key).await?;
    Ok(match record.map(|record| record.state) {
        Some(RecordState::Completed(stored)) => {
            Some(own.verdict(stored.body.as_deref()) != Verdict::Different)
        }
        _ => None,
    })
}

async fn compare(calls: &Calls, own: &CheckValues) -> Result<Verdict, StoreError> {
    let record = calls.get(&own.key).await?;
    let verdict = match record.map(|record| record.state) {
        None => Verdict::Outdated,
        Some(RecordState::Completed(stored)) => own.verdict(stored.body.as_deref()),
        Some(RecordState::Running { .. } | RecordState::Abandoned) => Verdict::Unwritten,
    };
    if verdict == Verdict::Outdated && !write(calls, own).await? {
        return Ok(Verdict::Unwritten);
    }
    Ok(verdict)
}

/// Says whether it was written: not if another instance writes. Two that write at a time have the same to say, or find
/// out when they compare the next time.
async fn write(calls: &Calls, own: &CheckValues) -> Result<bool, StoreError> {
    let Ok(token) = random::token() else {
        return Ok(false);
    };
    calls.remove(&own.key).await?;
    let owner = Owner {
        key: own.key,
        token,
    };
    let fingerprint = Fingerprint::from_bytes(*own.key.as_bytes());
    let operation = Described::new(OPERATION, None);
    let lives = (Policy::MAX_DURATION, LEASE);
    // One that arrives late is gone with its lease.
    let claim = ClaimTerms::new(owner, fingerprint, &operation, LEASE, lives);
    let is_ours = matches!(claim.ask(calls, None).await?, Claim::Acquired { .. });
    if is_ours {
        let response = Arc::new(StoredResponse::of_parts(
            0,
            Default::default(),
            Some(Bytes::from(own.values.concat())),
        ));
        calls.complete(&claim.owner, &response, claim.ttl).await?;
    }
    Ok(is_ours)
}

impl CheckValues {
    fn verdict(&self, stored: Option<&[u8]>) -> Verdict {
        let stored = stored.unwrap_or_default().as_chunks::<32>().0;
        let is_stored = |value: &[u8; 32]| stored.contains(value);
        let is_newest = self.values.last() == stored.last();
        let knows_newest = self.values.last().is_some_and(is_stored);
        if !self.values.iter().any(is_stored) {
            Verdict::Different
        } else if !knows_newest || (is_newest && self.values.len() < stored.len()) {
            // A rotation has begun, or is over.
            Verdict::Outdated
        } else {
            Verdict::Shared
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 32] = [1; 32];
    const B: [u8; 32] = [2; 32];

    fn verdict(own: &[[u8; 32]], stored: &[[u8; 32]]) -> Verdict {
        let own = CheckValues {
            key: RecordKey::from_bytes([0; 32]),
            values: own.to_vec(),
        };
        own.verdict(Some(&stored.concat()))
    }

    #[test]
    fn instances_that_share_a_secret_are_told_from_those_that_share_none() {
        for (own, stored, expected) in [
            (&[A][..], &[A][..], Verdict::Shared),
            (&[B], &[A], Verdict::Different),
            (&[A, B], &[A], Verdict::Outdated),
            (&[A, B], &[A, B], Verdict::Shared),
            // An old instance restarts while the new ones are rolled out.
            (&[A], &[A, B], Verdict::Shared),
            // The rotation is over.
            (&[B], &[A, B], Verdict::Outdated),
            (&[A, B], &[B], Verdict::Shared),
            (&[A], &[B], Verdict::Different),
            (&[A], &[], Verdict::Different),
        ] {
            assert_eq!(verdict(own, stored), expected, "{own:?} and {stored:?}");
        }
    }
}
