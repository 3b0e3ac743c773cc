//! What becomes of a claim without a response: it is released, or its key is abandoned.

use tokio::time::Instant;

use super::{Answer, ClaimGuard, Own, Phase};
use crate::engine::Steps;
use crate::engine::given_up::{self, GivenUp, How};
use crate::observer::Event;
use crate::record::RecordState;
use crate::store::Release;

impl ClaimGuard {
    /// Frees the key, because the handler says that nothing happened, and says what to answer.
    ///
    /// After a take-over this attempt cannot speak for the ones before it: the key then becomes what
    /// it was, abandoned.
    pub(crate) async fn release(self: Box<Self>) -> Answer {
        let how = How::of_attempt(self.attempt);
        self.give_up(how).await
    }

    /// As [`release`](Self::release), when it is not the handler who says that nothing happened. A
    /// finished step says that something did, and one of which nothing is known that it may have: the key then
    /// becomes abandoned, for the next attempt to go on after what is finished.
    pub(crate) async fn withdraw(self: Box<Self>) -> Answer {
        let may_have_acted = self.steps.as_ref().is_some_and(Steps::close);
        let how = if may_have_acted {
            How::Abandon
        } else {
            How::of_attempt(self.attempt)
        };
        self.give_up(how).await
    }

    async fn give_up(mut self: Box<Self>, how: How) -> Answer {
        match self.try_give_up(how).await {
            Some(Release::Lost) => self.look().await,
            _ if self.aliases.is_empty() => Answer::Acquired(Own::GivenUp),
            _ => Box::pin(self.look_at_lost_aliases()).await,
        }
    }

    /// Ends the lease now and not in its own time: something may have happened, and nothing is left
    /// that could say what.
    pub(crate) async fn abandon(mut self: Box<Self>) {
        self.try_give_up(How::Abandon).await;
    }

    pub(super) fn tell_abandoned(&self) {
        tracing::warn!(record = %self.owner().key, operation = self.described().shown(), attempt = self.attempt,
            "an attempt was abandoned: whether it took effect is unknown");
        self.engine.observers().tell(|| Event::Abandoned {
            operation: self.claim.operation.shown(),
            record: self.claim.owner.key,
        });
    }

    /// What the store says to it; `None` if it is tried again in the background. Those aliases are left
    /// whose claim was lost.
    async fn try_give_up(&mut self, how: How) -> Option<Release> {
        // A marker of a take-over has not.
        let has_run = self.has_run();
        self.phase = Phase::GivingUp { how, has_run };
        for alias in &mut self.aliases {
            let how = how.or(How::of_attempt(alias.attempt));
            let has_run = alias.has_run();
            alias.phase = Phase::GivingUp { how, has_run };
        }
        // The steps go to the aliases too, which must be held for that.
        self.end(how).await;
        for mut alias in std::mem::take(&mut self.aliases) {
            let how = how.or(How::of_attempt(alias.attempt));
            if let Some(Release::Lost) = Box::pin(alias.try_give_up(how)).await {
                self.aliases.push(alias);
            }
        }
        let given_up = given_up::give_up(&self.engine, self.owner(), how).await;
        self.phase = Phase::Done;
        if has_run && how == How::Abandon && !matches!(given_up, Ok(Release::Lost)) {
            self.tell_abandoned();
        }
        match given_up {
            Ok(release) => {
                if self.claim.has_lost_question() {
                    self.hand_over(how);
                }
                Some(release)
            }
            Err(error) => {
                tracing::warn!(record = %self.owner().key, error = &error as &dyn std::error::Error,
                    "could not give up a claim; retrying in the background");
                self.hand_over_without_reply(how, has_run);
                None
            }
        }
    }

    /// An alias is told before it is asked for.
    fn has_run(&self) -> bool {
        match self.phase {
            Phase::Begun => true,
            Phase::GivingUp { has_run, .. } => has_run,
            Phase::NotBegun | Phase::Done => false,
        }
    }

    /// The store has not said whether the claim has ended.
    pub(super) fn hand_over_without_reply(&self, how: How, has_run: bool) {
        match how {
            // Its record may still be there: not one that a late question has made, in which nothing has run.
            How::Abandon if has_run => self.hand_over_as(how),
            _ => self.hand_over(how),
        }
    }

    /// No renewal and no step from here on.
    async fn end(&mut self, how: How) {
        if let Some(steps) = &self.steps
            && how == How::Abandon
        {
            Box::pin(steps.flush()).await;
        }
        self.end_steps();
        self.lease.stop();
    }

    /// A late question to take a record over makes a new one if it is gone meanwhile. Also the first attempt may have
    /// asked for a take-over, when it had lost its claim: what that one takes over later has crashed.
    pub(super) fn how_if_late(&self, how: How) -> How {
        match self.attempt {
            1 if !self.claim.has_lost_take_over() => how,
            _ => How::Either,
        }
    }

    /// Lets the claim be given up in the background.
    pub(super) fn hand_over(&self, how: How) {
        self.hand_over_as(match self.claim.has_lost_question() {
            true => self.how_if_late(how),
            false => how,
        });
    }

    fn hand_over_as(&self, how: How) {
        let mut given_up = GivenUp::new(*self.owner(), how);
        if self.claim.has_lost_question() {
            given_up = given_up.may_still_arrive(Instant::now(), self.claim.lease);
        }
        given_up::hand_over(&self.engine, given_up, self.lease.runtime());
    }

    /// The key could not be released because another attempt has the claim, or none has.
    pub(super) async fn look(&self) -> Answer {
        let record = self.engine.read(&self.owner().key).await;
        // A store that forgot the record may have another request's by now, whose response is not shown here.
        if let Ok(Some(record)) = &record
            && record.fingerprint != self.claim.fingerprint
        {
            return self.unknown();
        }
        match record.map(|record| record.map(|record| record.state)) {
            Ok(None) => Answer::Acquired(Own::GivenUp),
            Ok(Some(RecordState::Completed(stored))) => Answer::Completed(stored),
            Ok(Some(RecordState::Running { lease_left })) => Answer::InFlight { lease_left },
            Ok(Some(RecordState::Abandoned)) | Err(_) => self.unknown(),
        }
    }
}
