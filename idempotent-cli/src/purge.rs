//! `idempotent purge`: removes expired records, as a service does every minute.

use idempotent_runtime::store::{Purged, StoreError};

use crate::arguments::Settings;
use crate::failure::Failure;
use crate::output::{Output, Tone, plain};
use crate::{Answer, settings};

/// How many are removed at a time.
const BATCH: usize = 1000;

pub(crate) async fn run(settings: &Settings, output: &mut Output) -> Result<Answer, Failure> {
    let idempotency = settings::open(settings).await?;
    let store = idempotency.store();
    let purge = async || store.purge_expired(BATCH).await;
    let (records, abandoned) = sweep(purge, output).await?;
    output.line(format!("{records} expired records were removed, of which {abandoned} were never completed or resolved"))?;
    match (idempotency.store().name(), records) {
        ("redis", _) => output.line("Redis removes its expired records by itself")?,
        ("postgres", 0) => output.line("(one sweep runs at a time: while an instance of the service sweeps, this one finds nothing)")?,
        _ => {}
    }
    Ok(Answer::Yes)
}

/// Batch by batch, until it is through: not until nothing expires any more.
async fn sweep(
    mut purge: impl AsyncFnMut() -> Result<Purged, StoreError>,
    output: &mut Output,
) -> Result<(usize, usize), Failure> {
    let (mut records, mut abandoned) = (0, 0);
    loop {
        let purged = purge().await;
        let purged = purged.map_err(|error| Failure::of_store("cannot purge", &error))?;
        for claim in &purged.abandoned {
            let (key, operation) = (claim.key.to_hex(), plain(&claim.operation));
            let line = format!("abandoned: {key} {operation}");
            output.line(output.toned(Tone::Bad, &line))?;
        }
        records += purged.records;
        abandoned += purged.abandoned.len();
        output.flush()?;
        if purged.records < BATCH {
            return Ok((records, abandoned));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_although_records_go_on_expiring() {
        let mut calls = 0;
        let purge = async || {
            calls += 1;
            assert!(calls < 10, "it does not end");
            let mut purged = Purged::default();
            purged.records = if calls == 1 { BATCH } else { 1 };
            Ok(purged)
        };
        let swept = sweep(purge, &mut Output::to_stdout()).await.unwrap();
        assert_eq!((swept, calls), ((BATCH + 1, 0), 2));
    }
}
