//! What waits for the writer.
//!
//! A caller that gives up takes its operation out again: what no caller waits for is not done later, when
//! a claim would hold its key for no caller, and the queue is never longer than there are callers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::job::{Job, Urgency};

#[derive(Default)]
pub(super) struct WriterQueue {
    waiting: Mutex<QueuedJobs>,
    changed: Notify,
}

#[derive(Default)]
struct QueuedJobs {
    jobs: BTreeMap<Rank, (Instant, Box<dyn Job>)>,
    next_number: u64,
    is_closed: bool,
}

type Rank = (Urgency, u64);

/// A place in the queue. Dropped, it is left.
pub(super) struct InQueue<'a> {
    queue: &'a WriterQueue,
    rank: Rank,
}

impl WriterQueue {
    /// `None` when it is not served any more.
    pub(super) fn enter(&self, urgency: Urgency, job: Box<dyn Job>) -> Option<InQueue<'_>> {
        let rank = {
            let mut waiting = self.waiting();
            if waiting.is_closed {
                return None;
            }
            let rank = (urgency, waiting.next_number);
            waiting.next_number += 1;
            waiting.jobs.insert(rank, (Instant::now(), job));
            rank
        };
        self.changed.notify_one();
        Some(InQueue { queue: self, rank })
    }

    /// Waits until an operation is there; `false` when none will come any more.
    pub(super) async fn wait(&self) -> bool {
        loop {
            {
                let waiting = self.waiting();
                if !waiting.jobs.is_empty() {
                    return true;
                }
                if waiting.is_closed {
                    return false;
                }
            }
            self.changed.notified().await;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting().jobs.is_empty()
    }

    /// The first ones.
    pub(super) fn take(&self, limit: usize) -> Vec<Box<dyn Job>> {
        let mut waiting = self.waiting();
        let mut taken = Vec::with_capacity(limit.min(waiting.jobs.len()));
        while taken.len() < limit
            && let Some((_, (_, job))) = waiting.jobs.pop_first()
        {
            taken.push(job);
        }
        taken
    }

    /// The operations that have waited for as long as that.
    pub(super) fn take_older_than(&self, patience: Duration) -> Vec<Box<dyn Job>> {
        let mut waiting = self.waiting();
        let taken = waiting
            .jobs
            .extract_if(.., |_, (since, _)| since.elapsed() >= patience);
        taken.map(|(_, (_, job))| job).collect()
    }

    /// No operation is let in any more.
    pub(super) fn close(&self) {
        self.waiting().is_closed = true;
        self.changed.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, QueuedJobs> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InQueue<'_> {
    fn drop(&mut self) {
        let left = self.queue.waiting().jobs.remove(&self.rank);
        // What it holds is freed without the lock.
        drop(left);
    }
}

/// Serves a queue, and closes it in the end: callers that wait are told so.
pub(super) struct ClosesQueue(pub(super) Arc<WriterQueue>);

impl Drop for ClosesQueue {
    fn drop(&mut self) {
        self.0.close();
        drop(self.0.take(usize::MAX));
    }
}
