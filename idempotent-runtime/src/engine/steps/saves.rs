//! What of a log was saved in which record.

use std::sync::atomic::Ordering;

use super::log::Log;
use super::{Held, Shared};
use crate::store::Progress;

/// How many bytes of the log saves have carried.
#[derive(Debug, Default)]
pub(super) struct Saves {
    /// Whatever became of it.
    pub(super) tried: usize,
    /// Into each record, in the order in which they are held. `None`: it has not a beginning of the log, and is left alone.
    pub(super) done: Vec<Option<usize>>,
}

/// Another attempt has the claim, or none has.
pub(super) struct Lost;

impl Saves {
    /// That record, of all that are held, has none of the log.
    pub(super) fn begin_anew(&mut self, number: usize) {
        self.tried = 0;
        if let Some(done) = self.done.get_mut(number) {
            *done = Some(0);
        }
    }

    /// Whether each record that is saved to has the log up to there.
    pub(super) fn are_all_at(&self, end: usize) -> bool {
        self.done.iter().flatten().all(|done| *done >= end)
    }

    /// The aliases first: the first record is what an application sees.
    fn of_all<'a>(
        &'a mut self,
        shared: &'a Shared,
    ) -> impl Iterator<Item = (&'a Held, &'a mut usize)> {
        let records: Vec<_> = shared.all_held().zip(&mut self.done).collect();
        let records = records.into_iter().rev();
        records.filter_map(|(held, done)| Some((held, done.as_mut()?)))
    }

    /// Saves in each record what was appended since the last save there that succeeded.
    pub(super) async fn save_all(&mut self, shared: &Shared, log: &Log) -> Result<(), Lost> {
        let end = log.len();
        let mut is_lost = false;
        for (held, done) in self.of_all(shared) {
            if *done >= end {
                continue;
            }
            match held.save(shared, log, *done..end).await {
                Ok(Progress::Saved) => *done = end,
                Ok(Progress::Behind { stored_bytes }) => *done = stored_bytes,
                Ok(Progress::Lost) => is_lost = true,
                Err(error) => {
                    let record = held.claim.owner.key;
                    tracing::warn!(%record, error = &error as &dyn std::error::Error,
                        "could not save a finished step; it is saved with the next one");
                }
            }
        }
        self.tried = end;
        if is_lost {
            shared.is_lost.store(true, Ordering::Release);
            return Err(Lost);
        }
        Ok(())
    }
}
