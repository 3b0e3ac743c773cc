//! What an attempt and those before it have finished, as it is to be stored.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::engine::Known;
use crate::engine::calls::lock;
use crate::key::RecordKey;
use crate::record::progress::{BESIDE_OTHERS, Finished, FinishedSteps, MAX_PROGRESS_BYTES, append};

/// The finished steps.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) earlier: FinishedSteps,
    /// What the handlers of the attempts before this one were told as their record key.
    pub(super) told: Option<RecordKey>,
    /// Its request has other records, or had.
    pub(super) is_beside_others: bool,
    /// The progress as it is to be stored.
    pub(super) bytes: Mutex<Vec<u8>>,
    /// Steps of this attempt that the handler has not got the result of: they are being saved, or the
    /// future that was saving them was dropped.
    pub(super) unsaid: Mutex<HashMap<Box<str>, Unsaid>>,
    /// This attempt has finished one.
    pub(super) has_own: AtomicBool,
}

/// A step that has run, and where it ends in the log.
#[derive(Clone, Debug)]
pub(super) struct Unsaid {
    pub(super) step: Finished,
    pub(super) end: usize,
}

impl Log {
    /// Of a first attempt, as its records were claimed.
    pub(super) fn first(is_beside_others: bool) -> Self {
        let bytes = match is_beside_others {
            true => BESIDE_OTHERS.to_vec(),
            false => Vec::new(),
        };
        Self {
            is_beside_others,
            bytes: Mutex::new(bytes),
            ..Self::default()
        }
    }

    /// Of an attempt after others.
    pub(super) fn after(known: Known, is_beside_others: bool) -> Self {
        Self {
            told: known.told,
            is_beside_others: is_beside_others || known.steps.is_beside_others(),
            earlier: known.steps,
            bytes: Mutex::new(known.progress.into()),
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.bytes).len()
    }

    pub(super) fn copy(&self, range: Range<usize>) -> Bytes {
        Bytes::copy_from_slice(lock(&self.bytes).get(range).unwrap_or_default())
    }

    /// Returns where the step ends.
    pub(super) fn append(&self, label: &str, step: Finished) -> usize {
        let end = self.extend(&step.encode());
        self.appended(label, step, end)
    }

    /// Steps that run side by side have the room together.
    ///
    /// # Errors
    ///
    /// With the length of one that there is no room for.
    pub(super) fn append_if_it_fits(&self, label: &str, step: Finished) -> Result<usize, usize> {
        let encoded = step.encode();
        let end = {
            let mut bytes = lock(&self.bytes);
            if bytes.len() + encoded.len() > MAX_PROGRESS_BYTES {
                return Err(encoded.len());
            }
            append(&mut bytes, &encoded);
            bytes.len()
        };
        Ok(self.appended(label, step, end))
    }

    fn appended(&self, label: &str, step: Finished, end: usize) -> usize {
        self.has_own.store(true, Ordering::Release);
        lock(&self.unsaid).insert(label.into(), Unsaid { step, end });
        end
    }

    /// Returns where the encoded part ends.
    pub(super) fn extend(&self, part: &[u8]) -> usize {
        let mut bytes = lock(&self.bytes);
        append(&mut bytes, part);
        bytes.len()
    }

    /// Whether any attempt has finished a step.
    pub(super) fn has_steps(&self) -> bool {
        !self.earlier.is_empty() || self.has_own.load(Ordering::Acquire)
    }

    /// A step of this label that has run without its result being told to the handler.
    pub(super) fn unsaid(&self, label: &str) -> Option<Unsaid> {
        lock(&self.unsaid).get(label).cloned()
    }

    /// The handler is told.
    pub(super) fn say(&self, label: &str) {
        lock(&self.unsaid).remove(label);
    }
}
