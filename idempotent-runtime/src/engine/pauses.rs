//! Pauses between tries.

use std::time::Duration;

use tokio::time::sleep;

use super::random;

/// The first pause.
pub(super) const FIRST: Duration = Duration::from_millis(50);

/// Pauses that double from 50 ms up to a bound, with jitter: between half and all of each, so that what
/// failed together does not try again together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    pub(super) fn up_to(longest: Duration) -> Self {
        Self {
            next: FIRST.min(longest),
            longest,
        }
    }

    /// None is shorter or longer than that from now on.
    pub(super) fn limit_to(&mut self, shortest: Duration, longest: Duration) {
        self.next = self.next.max(shortest);
        self.longest = longest;
    }

    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        jittered(pause)
    }

    pub(super) async fn pause(&mut self) {
        sleep(self.next()).await;
    }
}

/// Between half and all of a pause.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause / 2 + pause * u32::from(random::byte()) / 512
}
