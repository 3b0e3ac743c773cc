//! What has to be finished after the answer went out, or when there will be none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

use super::{Engine, Held};
use crate::record::{Owner, StoredResponse};
use crate::store::{Completion, StoreError};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The most releases that are retried at a time. A store that is down fails every claim, and each
/// would leave a task behind; what is over the limit waits for its lease to end instead.
const MOST_RELEASES: usize = 1024;

/// Counts the releases that are being retried.
#[derive(Clone, Debug, Default)]
pub(super) struct Limit(Arc<AtomicUsize>);

struct Permit(Arc<AtomicUsize>);

impl Limit {
    fn acquire(&self) -> Option<Permit> {
        let within = |count| (count < MOST_RELEASES).then_some(count + 1);
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

impl Engine {
    /// Frees a key that was claimed, or may have been, and for which nothing has run.
    pub(super) fn release_in_background(&self, owner: Owner, until: Instant) {
        let (Ok(runtime), Some(permit)) = (Handle::try_current(), self.0.cleanups.acquire()) else {
            tracing::warn!(record = %owner.key, "left a claim to the end of its lease");
            return;
        };
        let engine = self.clone();
        let release = async move {
            let _permit = permit;
            let call = || engine.timed(engine.store().release(&owner));
            if retry(until, call).await.is_none() {
                tracing::warn!(record = %owner.key, "could not release a claim before its lease ended");
            }
        };
        self.tasks().spawn_on(release.in_current_span(), &runtime);
    }
}

impl Held {
    /// Goes on storing a response whose handler has run and whose answer has gone out.
    ///
    /// There is no limit to these tasks but the number of handlers that ran: each stands for an
    /// effect that must not happen twice.
    pub(super) fn complete_in_background(self, response: Arc<StoredResponse>) {
        let tasks = self.engine().tasks().clone();
        let store = async move {
            let record = self.owner().key;
            // Renewed as long as the store can be reached, so the end may move.
            let outcome = loop {
                let until = self.lease_until();
                let outcome = retry(until, || self.store_response(&response)).await;
                if outcome.is_some() || Instant::now() >= self.lease_until() {
                    break outcome;
                }
            };
            match outcome {
                Some(Completion::Stored | Completion::AlreadyMine) => {
                    tracing::info!(%record, "stored a response late");
                }
                Some(Completion::Lost) => {
                    tracing::error!(%record, "response was answered but could not be stored: claim lost");
                }
                None => {
                    tracing::error!(%record, "response was answered but could not be stored: lease ended");
                }
            }
        };
        tasks.spawn(store.in_current_span());
    }
}

/// Calls until it succeeds, with growing pauses; the last call is at `until`.
async fn retry<T, F>(until: Instant, call: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        if let Ok(done) = call().await {
            return Some(done);
        }
        let now = Instant::now();
        if now >= until {
            return None;
        }
        sleep_until(until.min(now + pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
