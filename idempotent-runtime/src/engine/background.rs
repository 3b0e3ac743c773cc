//! Responses that could not be stored at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tracing::Instrument;

use super::ClaimGuard;
use super::claim_guard::{Answer, Interrupted};
use super::pauses::Pauses;
use crate::observer::{Event, Observers};
use crate::record::StoredResponse;

/// The longest pause between two tries to store a response.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The bytes of responses that wait to be stored.
#[derive(Debug)]
pub(super) struct Pending {
    bytes: Arc<AtomicUsize>,
    max_bytes: usize,
}

/// A response that observers count.
struct Counted {
    bytes: usize,
    observers: Observers,
}

impl Counted {
    fn new(response: &StoredResponse, observers: &Observers) -> Self {
        let bytes = response.size_bytes();
        observers.tell(|| Event::PendingBegan { bytes });
        Self {
            bytes,
            observers: observers.clone(),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let bytes = self.bytes;
        self.observers.tell(|| Event::PendingEnded { bytes });
    }
}

/// Room for one response. Given back when dropped.
struct Room {
    pending: Arc<AtomicUsize>,
    bytes: usize,
}

impl Pending {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            bytes: Arc::default(),
            max_bytes,
        }
    }

    fn room_for(&self, response: &StoredResponse) -> Option<Room> {
        let bytes = response.size_bytes();
        let within = |pending: usize| {
            let pending = pending.checked_add(bytes)?;
            (pending <= self.max_bytes).then_some(pending)
        };
        self.bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
            .ok()?;
        Some(Room {
            pending: Arc::clone(&self.bytes),
            bytes,
        })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.pending.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl ClaimGuard {
    /// Goes on storing a response whose handler has run, until it is stored or a later attempt's answer
    /// stands. Its lease goes on being renewed meanwhile.
    ///
    /// There is no limit to the number of these tasks but the number of handlers that ran: each stands
    /// for an effect that must not happen twice, and while the store is unavailable no new handler
    /// begins. What they keep in memory is bounded: over the bound the body is given up, and then the
    /// headers, and that the request is done is still stored.
    pub(super) fn complete_in_background(self: Box<Self>, mut response: Arc<StoredResponse>) {
        let pending = &self.engine().0.pending;
        let mut room = pending.room_for(&response);
        if room.is_none() {
            tracing::error!(record = %self.owner().key, bytes = response.size_bytes(),
                "limit of pending responses reached; dropping this response's body");
            response = Arc::new(response.without_body());
            room = pending.room_for(&response);
        }
        if room.is_none() {
            // That the request is done takes as much room as the task that says it.
            response = Arc::new(response.status_only());
        }
        let tasks = self.engine().tasks().clone();
        let counted = Counted::new(&response, self.engine().observers());
        let rest = self.complete_until_stored(response, (counted, room));
        let rest = rest.in_current_span();
        // Without a runtime nothing can go on; the lease will tell.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            tasks.spawn_on(rest, &runtime);
        }
    }

    async fn complete_until_stored(
        mut self: Box<Self>,
        response: Arc<StoredResponse>,
        _pending: (Counted, Option<Room>),
    ) {
        let record = self.owner().key;
        let mut offered = Arc::clone(&response);
        let mut pauses = Pauses::up_to(LONGEST_PAUSE);
        loop {
            pauses.pause().await;
            match self.try_complete(&offered).await {
                Ok(answer) => {
                    match &answer {
                        Answer::Acquired(_) => tracing::info!(%record, "stored a response late"),
                        _ => {
                            tracing::error!(%record, "lost the claim after its response was sent");
                        }
                    }
                    return self.settle(&answer, offered).await;
                }
                // The store says that it cannot hold this response. That the request is done can still be
                // said; if not even that is taken, it was not about the response.
                Err(Interrupted {
                    error: Some(error), ..
                }) if error.is_about_item() => {
                    tracing::error!(%record, error = &error as &dyn std::error::Error,
                        "the store cannot hold a response");
                    let smaller = match (&offered.body, offered.headers.is_empty()) {
                        (Some(_), _) => Some(response.without_body()),
                        (None, false) => Some(response.status_only()),
                        (None, true) => None,
                    };
                    if smaller.is_some() {
                        pauses = Pauses::up_to(LONGEST_PAUSE);
                    }
                    offered = smaller.map_or_else(|| Arc::clone(&response), Arc::new);
                }
                Err(Interrupted { error, .. }) => {
                    tracing::debug!(%record, error = error.as_ref().map(|error| error as &dyn std::error::Error),
                        "could not store a response yet");
                }
            }
        }
    }
}
