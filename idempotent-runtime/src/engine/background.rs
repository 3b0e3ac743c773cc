//! What has to be finished after the answer went out, or when there will be none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

use super::held::{Answer, Interrupted};
use super::{Engine, Held};
use crate::record::{Owner, StoredResponse};

/// The most claims that are being given up at a time. A store that is down fails every claim, and
/// each would leave a task behind; what is over the limit is left as it is, and if it was claimed
/// after all its key is `outcome-unknown` once its lease has ended.
const MOST_GIVEN_UP: usize = 4096;

/// The longest pause between two tries to give up a claim.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Counts the claims that are being given up.
#[derive(Clone, Debug, Default)]
pub(super) struct Limit(Arc<AtomicUsize>);

struct Permit(Arc<AtomicUsize>);

/// Pauses between tries: they double, up to a bound.
struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Limit {
    fn acquire(&self) -> Option<Permit> {
        let within = |count| (count < MOST_GIVEN_UP).then_some(count + 1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
            .ok()?;
        Some(Permit(Arc::clone(&self.0)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pauses {
    fn up_to(longest: Duration) -> Self {
        Self {
            next: Duration::from_millis(50),
            longest,
        }
    }

    /// Waits, and says whether there is still time; the last try is at `until`.
    async fn pause(&mut self, until: Instant) -> bool {
        let now = Instant::now();
        if now >= until {
            return false;
        }
        sleep_until(until.min(now + self.next)).await;
        self.next = (self.next * 2).min(self.longest);
        true
    }
}

impl Engine {
    /// Gives up a claim for which nothing has run.
    ///
    /// `late_until` is for one that got no reply, and so may have been acquired or may be on its way
    /// still: what arrives late is given up late.
    pub(super) fn give_up_in_background(
        &self,
        owner: Owner,
        is_first: bool,
        until: Instant,
        late_until: Option<Instant>,
        runtime: &Handle,
    ) {
        let Some(permit) = self.0.given_up.acquire() else {
            tracing::warn!(record = %owner.key, "left a claim to the end of its lease");
            return;
        };
        let engine = self.clone();
        let give_up = async move {
            engine.give_up_until(&owner, is_first, until).await;
            if let Some(late_until) = late_until {
                // Not tracked: a shutdown need not wait for what probably never happened.
                tokio::spawn(
                    engine
                        .give_up_late(owner, is_first, late_until, permit)
                        .in_current_span(),
                );
            }
        };
        let runtime = Handle::try_current().unwrap_or_else(|_| runtime.clone());
        self.tasks().spawn_on(give_up.in_current_span(), &runtime);
    }

    async fn give_up_late(self, owner: Owner, is_first: bool, until: Instant, _permit: Permit) {
        let mut pauses = Pauses::up_to(LONGEST_PAUSE);
        while !self.is_closing() && pauses.pause(until).await {
            // If the store is away again, the next try will do.
            let _ = self.give_up(&owner, is_first).await;
        }
    }

    /// Tries until the store has replied.
    async fn give_up_until(&self, owner: &Owner, is_first: bool, until: Instant) {
        let mut pauses = Pauses::up_to(LONGEST_PAUSE);
        loop {
            match self.give_up(owner, is_first).await {
                Ok(_) => return,
                Err(error) if !pauses.pause(until).await => {
                    tracing::warn!(record = %owner.key, error = &error as &dyn std::error::Error,
                        "could not give up a claim");
                    return;
                }
                Err(_) => {}
            }
        }
    }
}

impl Held {
    /// Goes on storing a response whose handler has run, for as long as the record would live.
    ///
    /// There is no limit to these tasks but the number of handlers that ran: each stands for an
    /// effect that must not happen twice. While the store is away no new handler begins.
    pub(super) fn complete_in_background(self, response: Arc<StoredResponse>) {
        let tasks = self.engine().tasks().clone();
        tasks.spawn(self.complete_until_expiry(response).in_current_span());
    }

    async fn complete_until_expiry(self, mut response: Arc<StoredResponse>) {
        let record = self.owner().key;
        let mut pauses = Pauses::up_to(Duration::from_secs(2));
        while pauses.pause(self.expires_at()).await {
            match self.try_complete(&response).await {
                Ok(Answer::Own) => return tracing::info!(%record, "stored a response late"),
                Ok(_) => {
                    return tracing::error!(%record, "answered with a response, and then lost the claim");
                }
                Err(Interrupted { error, .. }) if error.may_have_happened() => {}
                // The store does not take this response, and would not later either. That the
                // request is done can perhaps still be said.
                Err(Interrupted { error, .. }) => {
                    tracing::error!(%record, error = &error as &dyn std::error::Error,
                        "the store refuses a response");
                    if response.body.is_none() {
                        return;
                    }
                    response = Arc::new(StoredResponse {
                        body: None,
                        ..(*response).clone()
                    });
                }
            }
        }
        tracing::error!(%record, "answered with a response that could not be stored while it was alive");
    }
}
