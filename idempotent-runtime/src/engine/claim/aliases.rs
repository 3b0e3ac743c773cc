//! While a secret is rotated: the other records of a request.

use std::sync::Arc;
use std::time::Duration;

use super::{Protection, new_owner};
use crate::engine::{ClaimGuard, Detach, Engine, Intent, Refusal};
use crate::key::RecordKey;
use crate::policy::Policy;
use crate::record::{RecordState, StoredResponse};
use crate::store::{Claim, StoreError};

impl Engine {
    /// The request has its record, and needs the one that instances with another secret know it by. What
    /// they have done counts, and is what this instance's record says from now on.
    pub(super) async fn enter_alias(
        &self,
        mut held: Box<ClaimGuard>,
        alias: RecordKey,
        protection: &mut Protection<'_, '_>,
    ) -> Result<Claim<Box<ClaimGuard>>, Refusal> {
        let other = match self.enter_record(alias, protection).await {
            Ok(Claim::Acquired(alias)) => {
                held.add_alias(alias);
                return Ok(Claim::Acquired(held));
            }
            other => other,
        };
        Detach::new(self.tasks(), async move {
            if let Ok(Claim::Completed(response)) = &other {
                held.store_copy(alias, Arc::clone(response)).await;
            } else {
                held.release().await;
            }
            other
        })
        .await
    }

    /// What another record of the request says, where this one was abandoned: its answer stands, and while an attempt runs there this
    /// one is not taken over, only to be given back.
    pub(super) async fn said_beside(
        &self,
        abandoned: &RecordKey,
        protection: &mut Protection<'_, '_>,
    ) -> Result<Option<Claim<Box<ClaimGuard>>>, StoreError> {
        let intent = protection.intent;
        if intent.keys.others().is_empty() {
            return Ok(None);
        }
        for key in intent.keys.iter().filter(|key| *key != abandoned) {
            let record = match self.read(key).await {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                // What is wrong with that record is no answer.
                Err(error) if error.is_about_item() => continue,
                Err(error) => return Err(error),
            };
            if !protection.fingerprints.include(record.fingerprint) {
                continue;
            }
            match record.state {
                RecordState::Completed(response) => {
                    let copying = self.copy_to_aliases(intent, *key, &response, protection.policy);
                    copying.await;
                    return Ok(Some(Claim::Completed(response)));
                }
                // Behind the first one it can be this request's own.
                RecordState::Running { lease_left } if *abandoned == intent.keys.first() => {
                    return Ok(Some(Claim::InFlight { lease_left }));
                }
                RecordState::Running { .. } | RecordState::Abandoned => {}
            }
        }
        Ok(None)
    }

    /// For a waiter: where the first record has no answer, the others are looked at before it is claimed again, which would wake all
    /// others that wait for it. What is wrong with the store, the claim says.
    pub(super) async fn running_alias(&self, intent: &Intent) -> Option<(RecordKey, Duration)> {
        if intent.keys.others().is_empty() {
            return None;
        }
        match self.read(&intent.keys.first()).await {
            Ok(Some(record)) if matches!(record.state, RecordState::Completed(_)) => return None,
            // One that runs can be a waiter's, which has claimed it to look at the others.
            Ok(_) => {}
            Err(_) => return None,
        }
        for alias in intent.keys.others() {
            if let Ok(Some(record)) = self.read(alias).await
                && let RecordState::Running { lease_left } = record.state
            {
                return Some((*alias, lease_left));
            }
        }
        None
    }

    /// The other records of a request say what this one says: for instances that know only another secret.
    /// What fails is tried again at the next replay.
    pub(super) async fn copy_to_aliases(
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
                let claim = intent.claim(self, owner, intent.fingerprint, policy);
                match self.claim(claim, take_over).await {
                    Ok(Claim::Acquired(held)) => {
                        let copying = held.store_copy(found, Arc::clone(response));
                        Detach::new(self.tasks(), copying).await;
                        break;
                    }
                    Ok(Claim::Abandoned { attempt, .. }) => take_over = Some(attempt),
                    _ => break,
                }
            }
        }
    }
}
