//! `idempotent purge`: removes expired records, as a service does every minute.

use crate::arguments::Settings;
use crate::failure::Failure;
use crate::output::{Output, Tone, plain};
use crate::{Answer, settings};

/// How many are removed at a time.
const BATCH: usize = 1000;

pub(crate) async fn run(settings: &Settings, output: &mut Output) -> Result<Answer, Failure> {
    let idempotency = settings::open(settings).await?;
    let (mut records, mut abandoned) = (0, 0);
    loop {
        let purged = idempotency.store().purge_expired(BATCH).await;
        let purged = purged.map_err(|error| Failure::of_store("cannot purge", &error))?;
        for claim in &purged.abandoned {
            let line = format!(
                "abandoned: {} {}",
                claim.key.to_hex(),
                plain(&claim.operation)
            );
            output.line(output.toned(Tone::Bad, &line))?;
        }
        records += purged.records;
        abandoned += purged.abandoned.len();
        output.flush()?;
        if purged.records == 0 {
            break;
        }
    }
    output.line(format!("{records} expired records were removed, of which {abandoned} were never completed or resolved"))?;
    if idempotency.store().name() == "redis" {
        output.line("Redis removes its expired records by itself")?;
    }
    Ok(Answer::Yes)
}
