//! The other records of a request, while a secret is rotated.
//!
//! A claim that is lost in one of them is lost: what knows only that secret has taken it over, and its answer stands.
//! No two records can be written in one step, so this is found out before the first of them is written.

use std::sync::Arc;
use std::time::Duration;

use super::{Answer, ClaimGuard, Interrupted, Own, interrupted};
use crate::engine::Engine;
use crate::key::RecordKey;
use crate::record::{RecordState, StoredResponse};
use crate::store::{Claim, Renewed, StoreError};

/// What ends so soon is not copied: copying takes time, by which the copy lives longer, and two records that are
/// copied to and fro would never end.
const LEAST_LEFT: Duration = Duration::from_secs(1);

impl Engine {
    /// How much longer this response is that of the record, which its copies must not outlive; `None` if it is about to end.
    async fn time_left(
        &self,
        key: &RecordKey,
        response: &StoredResponse,
    ) -> Result<Option<Duration>, StoreError> {
        let record = self.read(key).await?;
        let left = record.and_then(|record| match record.state {
            RecordState::Completed(stored) if *stored == *response => Some(record.expires_in),
            _ => None,
        });
        Ok(left.filter(|left| *left >= LEAST_LEFT))
    }
}

impl ClaimGuard {
    pub(in crate::engine) fn add_alias(&mut self, alias: Box<ClaimGuard>) {
        self.aliases.push(alias);
    }

    /// Stores the response of another record of this request, for as long as it has left there. What cannot be copied
    /// is left to the next replay.
    pub(in crate::engine) async fn store_copy(
        mut self: Box<Self>,
        source: RecordKey,
        response: Arc<StoredResponse>,
    ) {
        match self.engine.time_left(&source, &response).await {
            Ok(Some(left)) => {
                self.claim.ttl = left;
                self.begin();
                self.store(response).await;
            }
            Ok(None) => {
                self.release().await;
            }
            Err(error) => {
                tracing::debug!(record = %source, error = &error as &dyn std::error::Error,
                    "could not copy a response to the record of another secret");
                self.release().await;
            }
        }
    }

    /// The answer that another attempt has given under another secret, if one has taken this attempt's claim over
    /// there. The claims that are still held are renewed, so that they are not taken over before they are completed.
    pub(super) async fn answer_of_aliases(
        &self,
    ) -> Result<Option<(RecordKey, Arc<StoredResponse>)>, Interrupted> {
        let engine = &self.engine.0;
        let renewals = self.aliases.iter().map(|alias| alias.claim.renewal());
        let renewals: Vec<_> = renewals.collect();
        let results = engine.calls.renew(&renewals).await;
        for (alias, result) in self.aliases.iter().zip(results) {
            let claim = match result {
                Ok(Renewed::Renewed) => continue,
                Ok(Renewed::Lost) => alias.regain().await,
                Err(error) => Err(interrupted(Some(error), Answer::Acquired(Own::Pending))),
            };
            match claim {
                Ok(Claim::Acquired { .. } | Claim::Mismatch) => {}
                Ok(Claim::Completed(stored)) => return Ok(Some((alias.owner().key, stored))),
                Ok(Claim::InFlight { lease_left }) => {
                    return Err(interrupted(None, Answer::InFlight { lease_left }));
                }
                Ok(Claim::Abandoned { .. }) => {
                    return Err(interrupted(None, alias.still_storing()));
                }
                // What is wrong with that record must not keep the others from being completed.
                Err(Interrupted {
                    error: Some(error), ..
                }) if error.is_about_item() => {}
                Err(interrupted) => return Err(interrupted),
            }
        }
        Ok(None)
    }

    /// Completes this record with the answer of an alias.
    pub(super) async fn complete_as(
        &self,
        source: RecordKey,
        stored: Arc<StoredResponse>,
    ) -> Result<Answer, Interrupted> {
        let left = match self.engine.time_left(&source, &stored).await {
            Err(error) if !error.is_about_item() => {
                return Err(interrupted(Some(error), self.still_storing()));
            }
            left => left.ok().flatten(),
        };
        // The request is done, whatever has become of that record.
        let ttl = left.unwrap_or(self.claim.ttl);
        match self.complete_record(&stored, ttl).await {
            Ok(Answer::Acquired(_)) => Ok(Answer::Completed(stored)),
            Err(Interrupted {
                error,
                answer: Answer::Acquired(_),
            }) => Err(interrupted(error, self.still_storing())),
            other => other,
        }
    }

    /// The aliases say what the record says: its own response, or that of another attempt, which lives there
    /// for as long as it has left.
    pub(super) async fn finish_aliases(&mut self, answer: &Answer, own: Arc<StoredResponse>) {
        let (stored, ttl) = match answer {
            // Where the record is another request's by now, the others are this one's all the same, and it is done.
            Answer::Acquired(_) | Answer::Abandoned { .. } => (Some(own), None),
            Answer::Completed(stored) => {
                let left = self.engine.time_left(&self.owner().key, stored).await;
                (Some(Arc::clone(stored)), left.ok().flatten())
            }
            Answer::InFlight { .. } | Answer::Mismatch => (None, None),
        };
        for mut alias in std::mem::take(&mut self.aliases) {
            match &stored {
                // Boxed, because this is in it. An alias has no aliases.
                Some(response) => {
                    alias.claim.ttl = ttl.unwrap_or(self.claim.ttl);
                    Box::pin(alias.store(Arc::clone(response))).await;
                }
                None => Box::pin(alias.abandon()).await,
            }
        }
    }

    /// What the record of an alias says whose claim was lost, if that is something to answer with.
    pub(super) async fn look_at_lost_aliases(&self) -> Answer {
        for alias in &self.aliases {
            match alias.look().await {
                Answer::Acquired(_) => {}
                answer => return answer,
            }
        }
        Answer::Acquired(Own::GivenUp)
    }
}
