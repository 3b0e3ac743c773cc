//! `idempotent forget`: removes a record, whatever its state. The record is gone, so the decision is logged only.

use idempotent_runtime::{Locator, RecordState};

use crate::arguments::{Forget, Settings};
use crate::failure::Failure;
use crate::output::{Output, Tone, plain};
use crate::resolve::audit;
use crate::show::not_found;
use crate::time::short;
use crate::{Answer, selection, settings};

pub(crate) async fn run(
    settings: &Settings,
    command: &Forget,
    output: &mut Output,
) -> Result<Answer, Failure> {
    let audit = audit(&command.decision)?;
    if !command.yes {
        return Err(Failure::with_remedy(
            "the next request with this key runs, even if it was done before or is being done at this moment",
            "say --yes if that is what you want; for an abandoned key, `resolve` is safer",
        ));
    }
    let idempotency = settings::open(settings).await?;
    let Some(locator) = selection::one(&idempotency, &command.selector).await? else {
        not_found(output, false)?;
        return Ok(Answer::No);
    };
    // A record that cannot be read can be removed nevertheless.
    let found = match idempotency.inspect(&locator).await {
        Ok(found) => found,
        Err(error) => {
            output.line(format!("the record cannot be read: {error:?}"))?;
            None
        }
    };
    let locator = match &found {
        // What is named by a client's key has a record for each secret.
        Some(found) if command.selector.operation.is_none() => {
            Locator::by_record_key(found.record_key)
        }
        _ => locator,
    };
    if !idempotency.forget(&locator).await? {
        not_found(output, false)?;
        return Ok(Answer::No);
    }
    let (record, operation) = match &found {
        Some(found) => (found.record_key.to_hex(), plain(&found.operation)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    tracing::warn!(
        record,
        operation,
        by = audit.by(),
        reason = audit.reason(),
        "an operator removed a record"
    );
    output.line(format!(
        "{}: {record}",
        output.toned(Tone::Notice, "removed")
    ))?;
    if let Some(found) = &found {
        let was = match &found.state {
            RecordState::Running { .. } => "in-flight: its handler may put it back",
            RecordState::Abandoned => "abandoned",
            _ => "completed",
        };
        output.line(format!(
            "it was {was}, attempt {} of {operation}, first claimed {} ago, label {}",
            found.attempt,
            short(found.age),
            found.label.as_deref().map_or("-".into(), plain),
        ))?;
    }
    output.line("who and why is in the log line on standard error only: the record that could keep it is gone")?;
    Ok(Answer::Yes)
}
