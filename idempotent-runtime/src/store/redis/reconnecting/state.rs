//! Which link there is, and when the next one may be made. Always used under a lock.

use std::sync::Arc;
use std::time::Duration;

use ::redis::RedisResult;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::store::redis::debt::Health;
use crate::store::redis::link::Link;

/// How long one attempt to connect may take.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_millis(1500);

/// The pauses between the beginnings of two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

#[derive(Default)]
pub(super) struct LinkState {
    pub(super) link: Option<Arc<Link>>,
    /// Whether the link's server has said that it is no place to write to.
    pub(super) is_elsewhere: bool,
    pub(super) attempt: Option<ConnectAttempt>,
    pub(super) pace: Pace,
}

/// An attempt to connect that is under way.
#[derive(Clone)]
pub(super) struct ConnectAttempt {
    pub(super) begins_at: Instant,
    pub(super) outcome: watch::Receiver<Option<RedisResult<Arc<Link>>>>,
}

/// How soon the next attempt may begin.
#[derive(Default)]
pub(super) struct Pace {
    not_before: Option<Instant>,
    pause: Duration,
}

impl Pace {
    pub(super) fn may_begin(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| now >= at)
    }

    /// When the attempt begins that is wanted now.
    pub(super) fn begin(&mut self, now: Instant) -> Instant {
        let begins_at = self.not_before.map_or(now, |at| at.max(now));
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.not_before = Some(begins_at + self.pause);
        begins_at
    }
}

impl LinkState {
    /// A link that can be used now.
    pub(super) fn usable(&mut self, now: Instant) -> Option<Arc<Link>> {
        match self.link.as_ref()?.health(now) {
            Health::Silent => self.drop_dead_link(),
            // The calls that wait for it keep it until they have their replies.
            Health::Occupied if self.pace.may_begin(now) => self.drop_link(),
            _ if self.is_elsewhere && self.pace.may_begin(now) => self.drop_link(),
            Health::Occupied | Health::Good => {}
        }
        self.link.clone()
    }

    /// Of a link that has worked the next one may be as good: it is had at once.
    pub(super) fn drop_dead_link(&mut self) {
        if self.link.as_ref().is_some_and(|link| link.has_replied()) {
            self.pace = Pace::default();
        }
        self.drop_link();
    }

    pub(super) fn drop_link(&mut self) {
        self.is_elsewhere = false;
        self.link = None;
    }

    /// The attempt that is under way, unless its runtime has ended or stands still.
    pub(super) fn running_attempt(&mut self, now: Instant) -> Option<ConnectAttempt> {
        let attempt = self.attempt.take().filter(|attempt| {
            attempt.outcome.has_changed().is_ok() && now < attempt.begins_at + CONNECT_LIMIT * 2
        });
        self.attempt = attempt;
        self.attempt.clone()
    }
}
