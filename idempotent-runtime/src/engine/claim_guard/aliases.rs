//! The other records of a request, while a secret is rotated.
//!
//! A claim that is lost in one of them is lost: what knows only that secret has taken it over, and its answer stands.
//! No two records can be written in one step, so this is found out before the first of them is written.

use std::sync::Arc;

use super::{Answer, ClaimGuard, Interrupted, Own, interrupted};
use crate::engine::leases::LeaseGuard;
use crate::engine::steps::LeaseView;
use crate::record::StoredResponse;
use crate::store::{Claim, Renewed};

/// The lease of all claims of one request: until the first of them ends.
pub(super) fn lease_view(lease: &LeaseGuard, aliases: &[Box<ClaimGuard>]) -> LeaseView {
    let valid_until = lease.valid_until();
    let aliases = aliases.iter().map(|alias| alias.lease.valid_until());
    let aliases: Vec<_> = aliases.collect();
    LeaseView::new(move || {
        let mut aliases = aliases.iter();
        aliases.try_fold(valid_until()?, |until, alias| Some(until.min(alias()?)))
    })
}

impl ClaimGuard {
    pub(in crate::engine) fn add_alias(&mut self, alias: Box<ClaimGuard>) {
        self.aliases.push(alias);
    }

    /// The answer that another attempt has given under another secret, if one has taken this attempt's claim over
    /// there. The claims that are still held are renewed, so that they are not taken over before they are completed.
    pub(super) async fn answer_of_aliases(
        &self,
    ) -> Result<Option<Arc<StoredResponse>>, Interrupted> {
        let engine = &self.engine.0;
        let renewals = self.aliases.iter();
        let renewals: Vec<_> = renewals
            .map(|alias| alias.claim.renewal(engine.retention))
            .collect();
        let results = engine.calls.renew(&renewals).await;
        for (alias, result) in self.aliases.iter().zip(results) {
            let claim = match result {
                Ok(Renewed::Renewed) => continue,
                Ok(Renewed::Lost) => alias.regain().await,
                Err(error) => Err(interrupted(Some(error), Answer::Acquired(Own::Pending))),
            };
            match claim {
                Ok(Claim::Acquired { .. } | Claim::Mismatch) => {}
                Ok(Claim::Completed(stored)) => return Ok(Some(stored)),
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
        stored: Arc<StoredResponse>,
    ) -> Result<Answer, Interrupted> {
        match self.complete_record(&stored).await {
            Ok(Answer::Acquired(_)) => Ok(Answer::Completed(stored)),
            Err(Interrupted {
                error,
                answer: Answer::Acquired(_),
            }) => Err(interrupted(error, self.still_storing())),
            other => other,
        }
    }

    /// The aliases say what the record says: its own response, or that of another attempt.
    pub(super) async fn finish_aliases(&mut self, answer: &Answer, own: Arc<StoredResponse>) {
        let stored = match answer {
            Answer::Acquired(_) => Some(own),
            Answer::Completed(stored) => Some(Arc::clone(stored)),
            Answer::InFlight { .. } | Answer::Abandoned { .. } | Answer::Mismatch => None,
        };
        for alias in std::mem::take(&mut self.aliases) {
            match &stored {
                // Boxed, because this is in it. An alias has no aliases.
                Some(response) => {
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
