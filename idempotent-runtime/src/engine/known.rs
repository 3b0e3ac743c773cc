//! What the records of a request say of the attempts before: what they have finished, and by which record key the request is
//! known to its handlers.
//!
//! A request has several records while a secret is rotated, and an attempt after a crash may find only one of them, or one
//! more than the first attempt did. What an application has derived from a record key must not change with that.
//!
//! A record that is not claimed [beside others](FinishedSteps::is_beside_others) is the only one that its first attempt knew, so
//! that its handlers were told its own key. An attempt that claims all records of its request writes in each of them what
//! its handler is told, before that begins; where none of them says it, no handler was told anything.

use bytes::Bytes;

use super::Engine;
use crate::key::RecordKey;
use crate::record::progress::{FinishedSteps, begins_with, claimed_alone};
use crate::record::{Record, RecordState};
use crate::store::{StoreError, StoreErrorKind};

/// What is known of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// What its handlers were told as its record key; `None` where that is said nowhere.
    pub(crate) told: Option<RecordKey>,
    pub(crate) steps: FinishedSteps,
    /// The bytes of the steps.
    pub(super) progress: Bytes,
}

/// One of its records.
struct Source<'a> {
    key: &'a RecordKey,
    progress: &'a Bytes,
    steps: FinishedSteps,
}

impl Known {
    /// By those of the records that are not completed, in their order, if the first one is not.
    pub(crate) fn read(
        engine: &Engine,
        records: &[(RecordKey, Record)],
    ) -> Result<Self, StoreError> {
        if !records.first().is_some_and(|(_, first)| is_open(first)) {
            return Ok(Self::default());
        }
        let open = records.iter().filter(|(_, record)| is_open(record));
        let sources: Result<Vec<_>, _> = open.map(|it| Source::read(engine, it)).collect();
        Ok(Self::of(&sources?))
    }

    fn of(sources: &[Source<'_>]) -> Self {
        let alone = sources.iter().find(|it| !it.steps.is_beside_others());
        let said = sources.iter().filter(|it| it.steps.identity().is_some());
        let told = match alone {
            Some(alone) => Some(*alone.key),
            None => longest(said).and_then(|it| it.steps.identity()),
        };
        let Some(base) = alone.or_else(|| longest(sources.iter())) else {
            return Self::default();
        };
        // An attempt under another secret has saved what it finished in the record that it knows.
        let continued = sources.iter().filter(|it| {
            let is_same = it.steps.identity().is_none_or(|said| Some(said) == told);
            is_same && begins_with(it.progress, base.progress)
        });
        let fullest = longest(continued).unwrap_or(base);
        let progress = match alone {
            // Where nothing is stored yet, this is written as a whole.
            Some(_) => claimed_alone(fullest.progress),
            None => fullest.progress.clone(),
        };
        Self {
            told,
            progress,
            steps: fullest.steps.clone(),
        }
    }
}

impl<'a> Source<'a> {
    /// Progress that cannot be read is a corrupt record.
    fn read(engine: &Engine, (key, record): &'a (RecordKey, Record)) -> Result<Self, StoreError> {
        let steps = FinishedSteps::decode(&record.progress).map_err(|error| {
            StoreError::new(engine.store().name(), StoreErrorKind::Corrupt).with_source(error)
        })?;
        let progress = &record.progress;
        Ok(Self {
            key,
            progress,
            steps,
        })
    }
}

/// The first of the longest.
fn longest<'s, 'a: 's>(
    sources: impl DoubleEndedIterator<Item = &'s Source<'a>>,
) -> Option<&'s Source<'a>> {
    sources.rev().max_by_key(|it| it.progress.len())
}

pub(super) fn is_open(record: &Record) -> bool {
    !matches!(record.state, RecordState::Completed(_))
}

#[cfg(test)]
mod tests;
