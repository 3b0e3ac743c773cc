//! What is known of an attempt that crashed.

use std::time::Duration;

use super::Engine;
use super::known::{Known, is_open};
use crate::key::{KeySet, RecordKey};
use crate::record::RecordState;
use crate::record::progress::FinishedSteps;
use crate::recovery::Abandoned;
use crate::store::StoreError;

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
    let known = Known::read(engine, &records)?;
    let records = || records.iter().map(|(_, record)| record);
    Ok(Some(Crashed {
        record: known.told.unwrap_or(*key),
        attempt: records().fold(attempt, |most, it| most.max(it.attempt)),
        age: records().fold(Duration::ZERO, |most, it| most.max(it.age)),
        steps: known.steps,
    }))
}
