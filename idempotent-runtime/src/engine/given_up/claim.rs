//! A claim that is given up, and how often it is looked at.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::pauses::Pauses;
use crate::engine::tasks::TaskToken;
use crate::record::Owner;
use crate::store::{Release, StoreError};

/// For how long at least a question without a reply may still arrive: bytes in a server's receive
/// buffer are executed when the server goes on, whether or not the client is there. That is counted from the last question
/// that got none: a server that waits for its standby holds all of them up.
const LATEST_ARRIVAL: Duration = Duration::from_secs(10 * 60);

/// The longest pause between two tries while the store does not reply: how soon after its recovery the
/// key is free.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The first pause between two looks for a question that may still arrive, once the store has replied.
pub(super) const FIRST_WATCH: Duration = Duration::from_secs(1);

/// The longest pause between two looks for a question that may still arrive; never longer than the
/// lease that it would begin.
const LONGEST_WATCH: Duration = Duration::from_secs(30);

/// How a claim is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum How {
    /// Nothing has happened under this record: it is removed.
    Release,
    /// What attempts before this one have done is as unknown as it was: the record stays, abandoned.
    Abandon,
    /// It is not known which attempt was claimed: a take-over that finds no record makes a new one. That
    /// one is released, and any other abandoned.
    Either,
}

impl How {
    /// The first attempt's record is removed. A later attempt cannot speak for the ones before it.
    pub(in crate::engine) fn of_attempt(attempt: u32) -> Self {
        if attempt == 1 {
            Self::Release
        } else {
            Self::Abandon
        }
    }

    /// That of an alias: abandoned if either is.
    pub(in crate::engine) fn or(self, other: Self) -> Self {
        if self == Self::Abandon { self } else { other }
    }
}

/// A claim to be given up.
#[derive(Debug)]
pub(in crate::engine) struct GivenUp {
    pub(super) owner: Owner,
    pub(super) how: How,
    /// Until when a record that it has abandoned is there at least.
    abandoned_until: Option<Instant>,
    /// Until when its question may arrive; `None` when it was answered.
    may_arrive_until: Option<Instant>,
    longest_watch: Duration,
    /// When to look for the first time, from now on.
    pub(super) first_look: Duration,
    pauses: Pauses,
    /// Keeps [`Engine::shutdown`] waiting until the store has replied once.
    pub(super) unanswered: Option<TaskToken>,
}

impl GivenUp {
    pub(in crate::engine) fn new(owner: Owner, how: How) -> Self {
        Self {
            owner,
            how,
            abandoned_until: None,
            may_arrive_until: None,
            longest_watch: LONGEST_PAUSE,
            first_look: Duration::ZERO,
            pauses: Pauses::up_to(LONGEST_PAUSE),
            unanswered: None,
        }
    }

    /// A question of that time got no reply.
    pub(in crate::engine) fn may_still_arrive(
        mut self,
        asked_at: Instant,
        lease: Duration,
    ) -> Self {
        self.may_arrive_until = Some(asked_at + lease.max(LATEST_ARRIVAL));
        self.longest_watch = lease.clamp(LONGEST_PAUSE, LONGEST_WATCH);
        self
    }

    /// The record is completed, so what arrives before its end does no harm. Afterwards it would hold the
    /// key for no attempt. `None` if nothing can arrive then.
    pub(in crate::engine) fn once_expired(mut self, ttl: Duration) -> Option<Self> {
        self.first_look = ttl;
        (ttl < LATEST_ARRIVAL).then_some(self)
    }
}

impl GivenUp {
    /// Once a record that was abandoned is gone, a question that arrives makes a new one.
    pub(super) fn how_at(&self, now: Instant) -> How {
        let is_gone = self.abandoned_until.is_some_and(|until| until <= now);
        match self.how {
            How::Abandon if is_gone => How::Either,
            how => how,
        }
    }

    /// After which pause to look again, if there is a reason.
    pub(super) fn answered(
        mut self,
        result: &Result<Release, StoreError>,
        now: Instant,
        retention: Duration,
        unanswered_at: Option<Instant>,
    ) -> Option<(Duration, Self)> {
        match result {
            Ok(released) => {
                self.unanswered = None;
                if self.how == How::Abandon && *released == Release::Released {
                    // What the token holds from now on was claimed by a late question.
                    self.how = How::Either;
                }
                self.abandoned_until.get_or_insert(now + retention);
                let until = self.may_arrive_until?;
                let of_others = unanswered_at.map(|at| at + LATEST_ARRIVAL);
                (now < until.max(of_others.unwrap_or(until))).then_some(())?;
                self.pauses.limit_to(FIRST_WATCH, self.longest_watch);
            }
            Err(error) if error.is_about_item() => {
                // It may be read or repaired later, but not for ever.
                let until = *self.may_arrive_until.get_or_insert(now + LATEST_ARRIVAL);
                self.unanswered = None;
                if now >= until {
                    tracing::error!(record = %self.owner.key, error = error as &dyn std::error::Error,
                        "cannot give up a claim");
                    return None;
                }
            }
            Err(error) => {
                tracing::debug!(record = %self.owner.key, error = error as &dyn std::error::Error,
                    "could not give up a claim; retrying");
                // What was sent and not answered can arrive late too, and does no harm.
            }
        }
        Some((self.pauses.next(), self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::RecordKey;
    use crate::record::Token;

    /// Until the store has said that the record was abandoned, it may be the attempt's own, and is not freed.
    #[test]
    fn what_a_late_question_claims_is_looked_at_once_the_record_was_abandoned() {
        let owner = Owner {
            key: RecordKey::from_bytes([1; 32]),
            token: Token::from_bytes([2; 16]),
        };
        let (now, day) = (Instant::now(), Duration::from_secs(86_400));
        let mut given_up = GivenUp::new(owner, How::Abandon).may_still_arrive(now, day);
        for (released, how) in [
            (Release::Lost, How::Abandon),
            (Release::Released, How::Either),
        ] {
            let answered = given_up.answered(&Ok(released), now, day, None);
            given_up = answered.expect("its question may still arrive").1;
            assert_eq!(given_up.how_at(now), how);
        }
    }
}
