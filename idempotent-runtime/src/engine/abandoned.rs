//! What is known of an attempt that crashed.

use std::time::Duration;

use super::Engine;
use super::steps::most_attempted;
use crate::key::{KeySet, RecordKey};
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

/// What the attempt has finished, in whichever of the request's records that is kept; `None` when it is not its record's last any
/// more, or is not abandoned.
pub(super) async fn crashed(
    engine: &Engine,
    keys: &KeySet,
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
    let fingerprint = record.fingerprint;
    let (mut records, mut record) = (Vec::new(), Some(record));
    for of_request in keys.iter() {
        let found = match of_request == key {
            true => record.take(),
            false => match engine.read(of_request).await {
                // What is wrong with that record, its own claim says.
                Err(error) if error.is_about_item() => None,
                read => read?.filter(|it| is_open(it) && it.fingerprint == fingerprint),
            },
        };
        records.extend(found.map(|record| (*of_request, record)));
    }
    let (told, steps) = known_by(engine, &records)?;
    let records = || records.iter().map(|(_, record)| record);
    Ok(Some(Crashed {
        record: told.unwrap_or(*key),
        attempt: records().fold(attempt, |most, it| most.max(it.attempt)),
        age: records().fold(Duration::ZERO, |most, it| most.max(it.age)),
        steps,
    }))
}

fn is_open(record: &Record) -> bool {
    !matches!(record.state, RecordState::Completed(_))
}

/// What the handlers of a request were told as its record key, and what they have finished, by all of its records if the first
/// one is not completed. While a secret is rotated, nothing may have run under that one.
pub(crate) fn known_by(
    engine: &Engine,
    records: &[(RecordKey, Record)],
) -> Result<(Option<RecordKey>, FinishedSteps), StoreError> {
    let (mut identity, mut longest) = (None, &[][..]);
    let mut steps = FinishedSteps::default();
    if !records.first().is_some_and(|(_, first)| is_open(first)) {
        return Ok((None, steps));
    }
    let records = records.iter().filter(|(_, record)| is_open(record));
    for (_, record) in records.clone() {
        let of_record = finished_steps(engine, record)?;
        identity = identity.or(of_record.identity());
        if record.progress.len() > longest.len() {
            (longest, steps) = (&*record.progress, of_record);
        }
    }
    let attempts = records.map(|(key, record)| (*key, record.attempt));
    Ok((identity.or_else(|| most_attempted(attempts)), steps))
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
