//! Waiting for somebody else's answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::key::RecordKey;
use crate::policy::{InFlight, Policy};
use crate::record::Token;
use crate::store::{Store, Subscription};

const FIRST_POLL: Duration = Duration::from_millis(50);
const SLOWEST_POLL: Duration = Duration::from_secs(1);
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// Paces the looks at one record. It holds nothing but memory.
pub(super) struct Waiter {
    deadline: Option<Instant>,
    subscription: Option<Subscription>,
    poll: Duration,
}

impl Waiter {
    pub(super) fn new(policy: &Policy) -> Self {
        let deadline = match policy.in_flight {
            InFlight::Reject => None,
            InFlight::Wait => Some(Instant::now() + policy.wait),
        };
        Self {
            deadline,
            subscription: None,
            poll: FIRST_POLL,
        }
    }

    /// Returns `true` when it is time to look again, `false` when it is time to give up.
    ///
    /// The first call subscribes and asks for a look, because the record may have changed before
    /// there was a subscription; the next one waits.
    pub(super) async fn wait(
        &mut self,
        store: &Arc<dyn Store>,
        key: &RecordKey,
        lease_left: Duration,
    ) -> bool {
        let Some(deadline) = self.deadline else {
            return false;
        };
        let now = Instant::now();
        if now >= deadline {
            return false;
        }
        let Some(subscription) = self.subscription.take() else {
            self.subscription = Some(store.subscribe(key));
            return true;
        };
        // A lease that ends is no change of the record, so nobody tells.
        let pause = if subscription.is_reliable() {
            lease_left
        } else {
            lease_left.min(self.next_poll())
        };
        let until = deadline.min(now + pause.max(SHORTEST_WAIT));
        tokio::select! {
            () = subscription.changed() => {}
            () = sleep_until(until) => {}
        }
        true
    }

    /// Between half and all of a pause that doubles, so that waiters do not look all at once.
    fn next_poll(&mut self) -> Duration {
        let pause = self.poll;
        self.poll = (pause * 2).min(SLOWEST_POLL);
        let random = Token::random().map_or(128, |token| token.as_bytes()[0]);
        pause / 2 + pause * u32::from(random) / 512
    }
}
