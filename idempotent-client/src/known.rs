//! The state of an intent, which all its clones share.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::decision::{Conclusion, Decision, Reason};

/// Whether the key was sent before a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Never sent: no other process has the key, and no other task has sent it.
    Never,
    /// Not sent by this process. Another process may have the key, and may have sent it, or send it at the same time.
    Perhaps,
    /// Sent by an earlier try, by another task, or before the intent was loaded.
    Before,
}

/// One lock for all of it: what a task concludes and the next try of another one see each other.
#[derive(Debug)]
pub(crate) struct Shared(Mutex<Known>);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// How often the key was sent. At least 1 if the intent was restored.
    pub(crate) times_sent: u32,
    /// Another process may have the key.
    pub(crate) is_elsewhere: bool,
    pub(crate) is_closed: bool,
    pub(crate) latest: Latest,
}

/// The greatest reading of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Latest {
    At(SystemTime),
    /// The clock was set back. Whether it was wrong before or is wrong now is not known, so no later reading is believed.
    SetBack,
}

impl Shared {
    pub(crate) fn new(known: Known) -> Self {
        Self(Mutex::new(known))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Known> {
        // Every change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Of an intent that was just made.
    pub(crate) const fn new(created: SystemTime) -> Self {
        Self {
            times_sent: 0,
            is_elsewhere: false,
            is_closed: false,
            latest: Latest::At(created),
        }
    }

    /// Before each try: counts it, unless nothing may be sent any more. `usable` is how old the key may be.
    pub(crate) fn enter(&mut self, age: Option<Duration>, usable: Duration) -> Result<(), Reason> {
        if self.is_closed {
            return Err(Reason::Closed);
        }
        if age.is_none_or(|age| age >= usable) {
            return Err(Reason::Lifetime);
        }
        // Never wraps around to "not sent".
        self.times_sent = self.times_sent.saturating_add(1);
        Ok(())
    }

    /// After each try. What is concluded to be closed is closed for all clones: a later try of theirs would make it untrue.
    pub(crate) fn leave(&mut self, decide: impl FnOnce(Sent) -> Decision) -> Decision {
        let decision = decide(self.sent_before_this_try());
        if decision == Decision::Conclude(Conclusion::Closed) {
            self.is_closed = true;
        }
        decision
    }

    fn sent_before_this_try(&self) -> Sent {
        match self {
            Self {
                times_sent: 2.., ..
            } => Sent::Before,
            Self {
                is_elsewhere: true, ..
            } => Sent::Perhaps,
            _ => Sent::Never,
        }
    }

    /// The age by the greatest reading; `None` once the clock was set back by more than `margin`.
    pub(crate) fn age(
        &mut self,
        created: SystemTime,
        now: SystemTime,
        margin: Duration,
    ) -> Option<Duration> {
        self.latest = self.latest.and(now, margin);
        match self.latest {
            Latest::At(latest) => Some(latest.duration_since(created).unwrap_or_default()),
            Latest::SetBack => None,
        }
    }
}

impl Latest {
    fn and(self, now: SystemTime, margin: Duration) -> Self {
        match self {
            Self::At(latest) => match latest.duration_since(now) {
                Ok(behind) if behind > margin => Self::SetBack,
                Ok(_) => self,
                Err(_) => Self::At(now),
            },
            Self::SetBack => Self::SetBack,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const MARGIN: Duration = Duration::from_secs(300);
    const USABLE: Duration = Duration::from_secs(3600);

    fn known() -> Known {
        Known::new(UNIX_EPOCH + 60 * MINUTE)
    }

    #[test]
    fn count_of_tries_never_wraps_to_not_sent() {
        let mut known = known();
        known.times_sent = u32::MAX;
        known.enter(Some(Duration::ZERO), USABLE).unwrap();
        assert_eq!(known.times_sent, u32::MAX);
    }

    #[test]
    fn what_is_not_sent_does_not_count() {
        let mut known = known();
        assert_eq!(known.enter(None, USABLE), Err(Reason::Lifetime));
        assert_eq!(known.enter(Some(USABLE), USABLE), Err(Reason::Lifetime));
        known.is_closed = true;
        assert_eq!(
            known.enter(Some(Duration::ZERO), USABLE),
            Err(Reason::Closed)
        );
        assert_eq!(known.times_sent, 0);
    }

    #[test]
    fn age_is_that_of_the_greatest_reading_until_the_clock_is_set_back() {
        let (mut known, created) = (known(), UNIX_EPOCH + 60 * MINUTE);
        let mut age = |minutes: u32| known.age(created, UNIX_EPOCH + minutes * MINUTE, MARGIN);
        assert_eq!(age(55), Some(Duration::ZERO));
        assert_eq!(age(70), Some(10 * MINUTE));
        assert_eq!(age(65), Some(10 * MINUTE));
        assert_eq!(age(71), Some(11 * MINUTE));
        assert_eq!(age(65), None);
        assert_eq!(age(90), None);
    }
}
