//! Whether the claim is still held, before a response goes out that is not stored yet: a stream.

use tokio::time::Instant;

use super::{Answer, ClaimGuard, Interrupted, Own};
use crate::store::{Claim, Renewed};

impl ClaimGuard {
    /// What to answer instead of the response of this attempt, if its claim was lost. The store is asked only if a lease is not
    /// known to last: by a process that stood still, say. If it cannot be asked there is nothing to answer instead.
    pub(crate) async fn answer_instead(&self) -> Option<Answer> {
        let mut all = std::iter::once(self).chain(self.aliases.iter().map(|alias| &**alias));
        if all.all(|it| it.lease.is_known_to_last()) {
            return None;
        }
        // Boxed: few leases have ended.
        let answer = Box::pin(self.hold()).await;
        match answer.unwrap_or_else(|interrupted| interrupted.answer) {
            Answer::Acquired(_) => None,
            instead => Some(instead),
        }
    }

    /// Makes sure of the claim, and says what the response would be answered with if it was complete.
    async fn hold(&self) -> Result<Answer, Interrupted> {
        let (engine, asked_at) = (&self.engine.0, Instant::now());
        let renewal = self.claim.renewal();
        let renewed = engine.calls.renew(&[renewal]).await.pop();
        if let Some(Ok(Renewed::Lost)) = renewed {
            match self.regain().await? {
                Claim::Acquired(_) => {}
                Claim::Completed(stored) => return Ok(Answer::Completed(stored)),
                Claim::InFlight { lease_left } => return Ok(Answer::InFlight { lease_left }),
                Claim::Abandoned { .. } => return Ok(self.still_storing()),
                Claim::Mismatch => return Ok(self.unknown()),
            }
        }
        if let Some(Ok(_)) = renewed {
            self.lease.held_again(&self.claim, asked_at);
        }
        let own = Answer::Acquired(Own::Pending);
        if self.aliases.is_empty() {
            return Ok(own);
        }
        let answered = self.answer_of_aliases().await?;
        Ok(answered.map_or(own, |(_, stored)| Answer::Completed(stored)))
    }
}
