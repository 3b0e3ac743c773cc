//! What is known of an attempt that crashed.

use std::time::Duration;

use super::Engine;
use crate::key::RecordKey;
use crate::record::progress::FinishedSteps;
use crate::record::{Record, RecordState};
use crate::recovery::Abandoned;
use crate::store::{StoreError, StoreErrorKind};

/// A crashed attempt, as far as the engine knows it.
#[derive(Debug)]
pub(crate) struct Crashed {
    /// What its handler was told as its record key.
    pub(crate) record: RecordKey,
    pub(crate) attempt: u32,
    /// The time since the record's first claim.
    pub(crate) age: Duration,
    pub(crate) steps: FinishedSteps,
}

/// Describes a crashed attempt to a recovery function; called only when there is one.
pub(crate) type DescribeAbandoned<'a> = &'a (dyn Fn(Crashed) -> Abandoned + Send + Sync);

/// What the attempt has finished; `None` when it is not the record's last any more, or is not
/// abandoned.
pub(super) async fn crashed(
    engine: &Engine,
    key: &RecordKey,
    attempt: u32,
) -> Result<Option<Crashed>, StoreError> {
    let record = engine.read(key).await?;
    let abandoned = record.filter(|record| {
        record.attempt == attempt && matches!(record.state, RecordState::Abandoned)
    });
    let Some(record) = abandoned else {
        return Ok(None);
    };
    let steps = finished_steps(engine, &record)?;
    Ok(Some(Crashed {
        record: steps.identity().unwrap_or(*key),
        attempt,
        age: record.age,
        steps,
    }))
}

/// Progress that cannot be read is a corrupt record.
pub(crate) fn finished_steps(
    engine: &Engine,
    record: &Record,
) -> Result<FinishedSteps, StoreError> {
    FinishedSteps::decode(&record.progress).map_err(|error| {
        StoreError::new(engine.store().name(), StoreErrorKind::Corrupt).with_source(error)
    })
}
