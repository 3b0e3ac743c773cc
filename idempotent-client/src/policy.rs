//! How long and how often: a pure type, and the arithmetic of waits.

use std::time::{Duration, SystemTime};

use crate::decision::{Decision, Reason};
use crate::judge::{Verdict, judge};
use crate::known::Sent;
use crate::outcome::Outcome;
use crate::profile::Profile;

const SECOND: Duration = Duration::from_secs(1);

/// How long and how often an intent is tried by one call of `send`, and how its server is understood.
///
/// A policy does no I/O and has neither a clock nor randomness: [`decide`](Self::decide) gets both as arguments. It is
/// tested against every row of the table in `clients/vectors` of the repository.
///
/// ```
/// use std::time::Duration;
/// use idempotent_client::Policy;
///
/// let policy = Policy::new().attempts(4).budget(Duration::from_secs(20));
/// # let _ = policy;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    attempts: u32,
    budget: Duration,
    base: Duration,
    cap: Duration,
    timeout: Duration,
    lifetime: Duration,
    margin: Duration,
    profile: Profile,
}

impl Policy {
    /// 6 tries in 2 minutes; waits of up to 1 s x 2^i, at most 30 s; 30 s for each try; keys live for 24 hours, of
    /// which the last 5 minutes are not used.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            attempts: 6,
            budget: Duration::from_secs(120),
            base: SECOND,
            cap: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            lifetime: Duration::from_secs(24 * 3600),
            margin: Duration::from_secs(300),
            profile: Profile::Draft,
        }
    }

    /// Tries of one call, the first one included. Default 6; 0 counts as 1.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// No try of one call begins later than this after the first. Default 2 minutes. A try that has begun is not cut off.
    #[must_use]
    pub const fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// The wait after try i is random between 0 and `base` x 2^(i - 1). Default 1 s.
    #[must_use]
    pub const fn base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// The greatest back-off. Default 30 s. It does not shorten `Retry-After`.
    #[must_use]
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// How long one try may take, its response body included. Default 30 s. A longer try counts as "no answer". The
    /// limit is shorter at the end of the key's lifetime.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long the server keeps the record of a key. Default 24 hours.
    /// [`Intent::with_lifetime`](crate::Intent::with_lifetime) replaces it for one intent.
    #[must_use]
    pub const fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The last part of the lifetime, which is not used, because clocks differ and a try takes time. Also how far the
    /// clock may be set back before the age of a key counts as unknown. Default 5 minutes.
    #[must_use]
    pub const fn margin(mut self, margin: Duration) -> Self {
        self.margin = margin;
        self
    }

    /// The kind of server. Default [`Profile::Draft`].
    #[must_use]
    pub const fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    pub(crate) const fn server(&self) -> Profile {
        self.profile
    }

    /// How long a try of a key of this age may take. None outlives the key: neither the configured lifetime, nor what is used of the
    /// one that the server has `told`.
    pub(crate) fn try_timeout(
        &self,
        age: Duration,
        of_intent: Option<Duration>,
        told: Option<Duration>,
    ) -> Duration {
        let configured = of_intent.unwrap_or(self.lifetime);
        let life = configured.min(used(told));
        self.timeout.min(life.saturating_sub(age))
    }

    pub(crate) fn is_over(&self, elapsed: Duration) -> bool {
        elapsed > self.budget
    }

    pub(crate) const fn clock_margin(&self) -> Duration {
        self.margin
    }

    /// The decision after a try.
    ///
    /// `now` is the wall clock, for a `Retry-After` that is a date. `random` is uniform in 0..=1 and picks the wait; a
    /// value outside counts as 1.
    ///
    /// A retry is never sooner than the `Retry-After` of the answer. If a wait does not fit into the budget or the
    /// key's lifetime, the intent is undecided; the wait is not shortened.
    #[must_use]
    pub fn decide(
        &self,
        outcome: &Outcome<'_>,
        state: &State,
        now: SystemTime,
        random: f64,
    ) -> Decision {
        let sent = if state.attempt > 1 {
            Sent::Before
        } else {
            state.sent
        };
        match judge(outcome, self.profile, sent) {
            Verdict::Conclude(conclusion) => Decision::Conclude(conclusion),
            Verdict::Refuse(reason) => Decision::Refuse(reason),
            Verdict::Undecided(reason) => Decision::Undecided(reason),
            Verdict::Retry => self.retry(outcome, state, now, random),
        }
    }

    fn retry(
        &self,
        outcome: &Outcome<'_>,
        state: &State,
        now: SystemTime,
        random: f64,
    ) -> Decision {
        if state.attempt >= self.attempts.max(1) {
            return Decision::Undecided(Reason::Attempts);
        }
        let least = outcome.retry_after(now);
        let told = state.told.into_iter().chain(outcome.lifetime()).min();
        let usable = self.usable(state.lifetime, told);
        let life = state
            .age
            .map_or(Duration::ZERO, |age| usable.saturating_sub(age));
        let budget = self.budget.saturating_sub(state.elapsed);
        let left = life.min(budget);
        if least >= left {
            let is_life = life <= budget;
            return Decision::Undecided(if is_life {
                Reason::Lifetime
            } else {
                Reason::Budget
            });
        }
        let jitter = self.back_off(state.attempt).min(left - least);
        Decision::Retry {
            wait: least + scale(jitter, random),
        }
    }

    fn back_off(&self, attempt: u32) -> Duration {
        // 64 doublings of a nanosecond are centuries.
        let doublings = attempt.saturating_sub(1).min(64);
        let nanos = self.base.as_nanos().saturating_mul(1 << doublings);
        let wait = u64::try_from(nanos).map_or(self.cap, Duration::from_nanos);
        wait.min(self.cap)
    }

    /// How old a key may be that is sent. Of the lifetime that the server has `told`, nine tenths are used, and never more
    /// than what is configured.
    pub(crate) fn usable(&self, of_intent: Option<Duration>, told: Option<Duration>) -> Duration {
        let configured = of_intent.unwrap_or(self.lifetime);
        configured.saturating_sub(self.margin).min(used(told))
    }
}

/// What is used of a lifetime that the server has told.
fn used(told: Option<Duration>) -> Duration {
    told.map_or(Duration::MAX, |told| told - told / 10)
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

/// The state of an intent at the end of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Number of the try in this call of `send`, from 1.
    pub attempt: u32,
    /// Whether the key was sent before this try: by an earlier one, another task, another process. A try after the
    /// first implies it.
    pub sent: Sent,
    /// The time since the first try of this call began, by a monotonic clock.
    pub elapsed: Duration,
    /// The age of the key: [`Intent::age`](crate::Intent::age). `None` if it is unknown because the clock was set back.
    pub age: Option<Duration>,
    /// The intent's own lifetime, if it has one.
    pub lifetime: Option<Duration>,
    /// The shortest lifetime of the key in earlier answers of this call (`Idempotency-Status`).
    pub told: Option<Duration>,
}

/// Exact at both ends.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most the duration, and off by less than it in 2^53 parts"
)]
fn scale(duration: Duration, random: f64) -> Duration {
    if !(0.0..1.0).contains(&random) {
        return duration;
    }
    let nanos = (duration.as_nanos() as f64 * random) as u64;
    Duration::from_nanos(nanos).min(duration)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::decision::Conclusion;

    const LOST: Outcome<'_> = Outcome::Lost;

    fn state(attempt: u32) -> State {
        State {
            attempt,
            sent: Sent::Never,
            elapsed: Duration::ZERO,
            age: Some(Duration::ZERO),
            lifetime: None,
            told: None,
        }
    }

    fn wait(policy: &Policy, state: &State, random: f64) -> Duration {
        match policy.decide(&LOST, state, UNIX_EPOCH, random) {
            Decision::Retry { wait } => wait,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn random_outside_its_range_is_the_longest_wait() {
        for random in [1.0, 1.5, -0.1, f64::NAN, f64::INFINITY] {
            assert_eq!(wait(&Policy::new(), &state(1), random), SECOND, "{random}");
        }
        assert_eq!(wait(&Policy::new(), &state(1), 0.25), SECOND / 4);
        assert_eq!(wait(&Policy::new(), &state(1), 0.0), Duration::ZERO);
    }

    #[test]
    fn extreme_policies_do_not_overflow() {
        let policy = Policy::new()
            .attempts(u32::MAX)
            .budget(Duration::MAX)
            .base(Duration::MAX)
            .cap(Duration::MAX)
            .lifetime(Duration::MAX)
            .margin(Duration::ZERO);
        assert_eq!(wait(&policy, &state(u32::MAX - 1), 1.0), Duration::MAX);
        let zero = policy.base(Duration::ZERO);
        assert_eq!(wait(&zero, &state(100), 1.0), Duration::ZERO);
    }

    #[test]
    fn try_after_the_first_implies_that_the_key_was_sent() {
        let unauthorized = http::Response::builder().status(401).body("").unwrap();
        let decide = |attempt| {
            let outcome = Outcome::answer(&unauthorized);
            Policy::new().decide(&outcome, &state(attempt), UNIX_EPOCH, 0.0)
        };
        assert!(matches!(decide(1), Decision::Conclude(_)));
        assert!(matches!(decide(2), Decision::Undecided(_)));
    }

    #[test]
    fn first_4xx_closes_nothing_that_another_process_may_have_sent() {
        let decide = |status: u16, mark: Option<(&str, &str)>| {
            let mut answer = http::Response::builder().status(status);
            if let Some((name, value)) = mark {
                answer = answer.header(name, value);
            }
            let mut state = state(1);
            state.sent = Sent::Perhaps;
            let answer = answer.body("").unwrap();
            Policy::new().decide(&Outcome::answer(&answer), &state, UNIX_EPOCH, 0.0)
        };
        for status in [400, 402, 404, 422] {
            let rejected = Decision::Conclude(Conclusion::Rejected);
            assert_eq!(decide(status, None), rejected, "{status}");
        }
        for status in [401, 403] {
            assert!(matches!(
                decide(status, None),
                Decision::Undecided(Reason::Status(_))
            ));
        }
        for mark in [
            ("idempotent-replayed", "true"),
            ("idempotency-status", "stored; lifetime=86400"),
        ] {
            let closed = Decision::Conclude(Conclusion::Closed);
            assert_eq!(decide(401, Some(mark)), closed, "{mark:?}");
        }
    }

    #[test]
    fn key_of_unknown_age_is_not_sent_again() {
        let mut state = state(1);
        state.age = None;
        let decision = Policy::new().decide(&LOST, &state, UNIX_EPOCH, 0.0);
        assert_eq!(decision, Decision::Undecided(Reason::Lifetime));
    }

    #[test]
    fn no_try_outlives_the_key() {
        let policy = Policy::new();
        let timeout = |age, of_intent: Option<u32>, told: Option<u32>| {
            let lifetime = |secs: Option<u32>| secs.map(|secs| secs * SECOND);
            policy.try_timeout(age * SECOND, lifetime(of_intent), lifetime(told))
        };
        assert_eq!(timeout(0, None, None), 30 * SECOND);
        assert_eq!(timeout(47, None, Some(60)), 7 * SECOND);
        assert_eq!(timeout(50, Some(60), None), 10 * SECOND);
        assert_eq!(timeout(50, Some(60), Some(60)), 4 * SECOND);
        assert_eq!(timeout(61, Some(60), None), Duration::ZERO);
    }

    #[test]
    fn lifetime_that_was_told_is_not_forgotten_by_a_lost_try() {
        let mut state = state(2);
        state.age = Some(53 * SECOND);
        state.told = Some(60 * SECOND);
        assert_eq!(wait(&Policy::new(), &state, 1.0), SECOND);
        state.age = Some(54 * SECOND);
        let decision = Policy::new().decide(&LOST, &state, UNIX_EPOCH, 0.0);
        assert_eq!(decision, Decision::Undecided(Reason::Lifetime));
    }

    #[test]
    fn no_attempts_are_one() {
        let policy = Policy::new().attempts(0);
        let decision = policy.decide(&LOST, &state(1), UNIX_EPOCH, 0.0);
        assert_eq!(decision, Decision::Undecided(Reason::Attempts));
    }

    #[test]
    fn lifetime_of_the_intent_goes_before_that_of_the_policy() {
        let policy = Policy::new().margin(Duration::ZERO);
        let mut state = state(1);
        state.lifetime = Some(SECOND / 2);
        assert_eq!(wait(&policy, &state, 1.0), SECOND / 2);
        state.lifetime = Some(Duration::ZERO);
        let decision = policy.decide(&LOST, &state, UNIX_EPOCH, 0.0);
        assert_eq!(decision, Decision::Undecided(Reason::Lifetime));
    }
}
