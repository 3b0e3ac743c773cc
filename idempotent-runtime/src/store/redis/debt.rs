//! What a server owes over one connection, and what may be said of one that has not paid yet.

use std::time::Duration;

use tokio::time::Instant;

/// How long the server may owe a reply without any sign of life. It replies in order, so what arrives says that it is
/// there, whichever reply a call waits for.
///
/// Less than a store call may take by default, so that the call still has time for another connection.
pub(super) const SILENCE: Duration = Duration::from_millis(1500);

/// How fast what was sent is expected to get there at the least, in bytes per second: a long response on
/// a slow network is not silence.
const SLOWEST: u64 = 1024 * 1024;

/// How often a call that waits looks for signs of life.
const LOOK: Duration = Duration::from_millis(250);

/// A connection that has carried so much for so long without completing a reply is occupied by one that is long.
const LONG_REPLY_BYTES: u64 = 64 * 1024;
const LONG_REPLY: Duration = Duration::from_millis(100);

/// Whether a connection is fit for another call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    /// It works, and what is asked now would wait behind something long.
    Occupied,
    Silent,
}

/// What the server owes.
#[derive(Debug, Default)]
pub(super) struct Debt {
    /// `None` when it owes nothing.
    owed: Option<Owed>,
    /// The calls that wait for a reply. Those that were given up do not, and are owed one all the same.
    waiting: usize,
    /// How many bytes were sent for which there is no reply.
    sent_bytes: u64,
}

/// Since the last complete reply, or since the first call if there was none.
#[derive(Debug)]
struct Owed {
    since: Instant,
    /// How much the connection had carried by then.
    carried_before: u64,
    looked_at: Instant,
    /// When it had carried more than before, and how much.
    heard_at: Instant,
    carried: u64,
}

impl Owed {
    fn new(now: Instant, carried: u64) -> Self {
        Self {
            since: now,
            carried_before: carried,
            looked_at: now,
            heard_at: now,
            carried,
        }
    }

    fn look(&mut self, now: Instant, carried: u64) {
        self.looked_at = now;
        if carried != self.carried {
            (self.carried, self.heard_at) = (carried, now);
        }
    }

    fn is_for_a_long_reply(&self, now: Instant) -> bool {
        let bytes = self.carried.saturating_sub(self.carried_before);
        now >= self.since + LONG_REPLY && bytes >= LONG_REPLY_BYTES
    }
}

impl Debt {
    /// A call has begun. The time is only asked for where the server owed nothing.
    pub(super) fn add(&mut self, bytes: u64, now: impl FnOnce() -> Instant, carried: u64) {
        self.owed.get_or_insert_with(|| Owed::new(now(), carried));
        self.waiting += 1;
        self.sent_bytes += bytes;
    }

    /// A call has its reply. [`Debt::end`] follows.
    pub(super) fn pay(&mut self, bytes: u64, now: impl FnOnce() -> Instant, carried: u64) {
        if self.waiting == 1 {
            // Those that were given up came before, or will come: no call waits for them.
            (self.owed, self.sent_bytes) = (None, 0);
        } else {
            self.owed = Some(Owed::new(now(), carried));
            self.sent_bytes = self.sent_bytes.saturating_sub(bytes);
        }
    }

    /// A call does not wait any more.
    pub(super) fn end(&mut self) {
        self.waiting -= 1;
    }

    pub(super) fn look(&mut self, now: Instant, carried: u64) {
        if let Some(owed) = &mut self.owed {
            owed.look(now, carried);
        }
    }

    /// This process did not run, and what has arrived meanwhile is still to be read: the server has its time once more.
    pub(super) fn forgive(&mut self, now: Instant) {
        if let Some(owed) = &mut self.owed {
            owed.heard_at = now;
        }
    }

    /// When to look the next time, with this limit; `None` when nothing is owed.
    pub(super) fn next_look(&self, silence: Duration) -> Option<Instant> {
        let due = self.is_due_at(silence)?;
        Some(due.min(self.owed.as_ref()?.looked_at + LOOK))
    }

    pub(super) fn is_overdue(&self, now: Instant, silence: Duration) -> bool {
        self.is_due_at(silence).is_some_and(|due| now >= due)
    }

    pub(super) fn health(&mut self, now: Instant, carried: u64) -> Health {
        self.look(now, carried);
        let is_occupied = |owed: &Owed| owed.is_for_a_long_reply(now);
        if self.is_overdue(now, SILENCE) {
            Health::Silent
        } else if self.owed.as_ref().is_some_and(is_occupied) {
            Health::Occupied
        } else {
            Health::Good
        }
    }

    fn is_due_at(&self, silence: Duration) -> Option<Instant> {
        let transfer = Duration::from_secs(self.sent_bytes / SLOWEST);
        Some(self.owed.as_ref()?.heard_at + silence + transfer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn reply_that_is_arriving_is_no_silence_and_occupies_the_connection() {
        let begun = Instant::now();
        let at = |millis: u32| begun + MS * millis;
        let mut debt = Debt::default();
        assert_eq!(debt.health(begun, 0), Health::Good);
        debt.add(100, || begun, 0);
        // Not long, or not for long.
        assert_eq!(debt.health(at(99), 100_000), Health::Good);
        assert_eq!(debt.health(at(100), 100_000), Health::Occupied);
        assert_eq!(debt.health(at(1500), 200_000), Health::Occupied);
        assert_eq!(debt.health(at(2999), 200_000), Health::Occupied);
        assert_eq!(debt.health(at(3000), 200_000), Health::Silent);
    }

    #[test]
    fn server_that_sends_nothing_is_silent_whatever_else_is_asked() {
        let begun = Instant::now();
        let mut debt = Debt::default();
        for millis in 0..1500 {
            let now = begun + MS * millis;
            debt.add(100, || now, 7);
            assert_eq!(debt.health(now, 7), Health::Good);
            debt.end();
        }
        assert_eq!(debt.health(begun + MS * 1500, 7), Health::Silent);
    }

    #[test]
    fn replies_end_what_is_owed() {
        let begun = Instant::now();
        let at = |millis: u32| begun + MS * millis;
        let mut debt = Debt::default();
        debt.add(0, || begun, 0);
        debt.add(4 << 20, || unreachable!("it owes already"), 0);
        assert_eq!(debt.next_look(SILENCE), Some(at(250)));
        debt.pay(0, || at(1400), 100_000);
        debt.end();
        // 4 MiB have 4 s.
        assert_eq!(debt.health(at(6899), 100_000), Health::Good);
        assert!(debt.is_overdue(at(6900), SILENCE));
        debt.forgive(at(6900));
        assert!(!debt.is_overdue(at(6900), SILENCE));
        debt.pay(4 << 20, || unreachable!("it owes nothing more"), 100_000);
        debt.end();
        assert_eq!(debt.next_look(SILENCE), None);
        assert_eq!(debt.health(at(60_000), 100_000), Health::Good);
    }
}
