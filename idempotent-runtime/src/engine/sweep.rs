//! Sweeping: expired records are absent whether or not they were swept, but they take room.

use super::periodic::Rounds;
use crate::observer::{Event, Observers};
use crate::store::Purged;

/// How many records one store call frees at most: small enough not to be in the way of requests.
const BATCH: usize = 1000;

/// Ends with a shutdown, or with the last handle on the store.
pub(super) async fn sweep(rounds: Rounds) {
    while let Some(calls) = rounds.next(rounds.every).await {
        loop {
            match calls.purge(BATCH).await {
                Ok(purged) => {
                    report(&purged, calls.observers());
                    if purged.records < BATCH {
                        break;
                    }
                }
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "could not purge expired records"
                    );
                    break;
                }
            }
        }
    }
}

/// The outcome of an abandoned record that is purged was never resolved.
fn report(purged: &Purged, observers: &Observers) {
    tracing::trace!(records = purged.records, "purged expired records");
    for claim in &purged.abandoned {
        tracing::error!(record = %claim.key, operation = &*claim.operation,
            "purged an abandoned record: its outcome was never resolved, and its key is free");
        observers.tell(|| Event::PurgedAbandoned {
            operation: &claim.operation,
            record: claim.key,
        });
    }
}
