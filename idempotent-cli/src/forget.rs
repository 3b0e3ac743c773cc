//! `idempotent forget`: removes a record, whatever its state. The record is gone, so the decision is logged only.

use idempotent_runtime::{RecordState, Resolution};

use crate::arguments::{Forget, Settings};
use crate::failure::{Failure, causes};
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
            "the next request with this key runs, even if it was done before or is being done at this moment (unless the key is too old for its operation, `key_age`)",
            "use --yes if that is what you want; for an abandoned key, `resolve` is safer",
        ));
    }
    let idempotency = settings::open(settings).await?;
    let Some(selected) = selection::one(&idempotency, &command.selector).await? else {
        not_found(settings, output, false)?;
        return Ok(Answer::No);
    };
    // A record that cannot be read can be removed nevertheless.
    let found = match idempotency.inspect(&selected.locator).await {
        Ok(found) => found,
        Err(error) => {
            output.line(format!("the record cannot be read: {}", causes(&error)))?;
            None
        }
    };
    let locator = match &found {
        // What is named by a client's key has a record for each secret.
        Some(found) if selected.key.is_some() => selected.locator.seen(found.seen()),
        _ => selected.locator,
    };
    let is_one = selected.key.is_some();
    let forgotten = idempotency.forget_as(&locator, &audit).await;
    let forgotten = forgotten.map_err(|error| match is_one {
        true => Failure::of_removal_of_one(&error),
        // Of several records, one for each secret, some may be removed.
        false => Failure::of_removal(&error),
    });
    match forgotten? {
        Resolution::Resolved => {}
        Resolution::Changed => {
            output.line("nothing was removed: meanwhile another attempt has begun; look again")?;
            return Ok(Answer::No);
        }
        _ => {
            not_found(settings, output, false)?;
            return Ok(Answer::No);
        }
    }
    let key = found.as_ref().map(|found| found.record_key);
    let record = match key.or(selected.key) {
        Some(key) => key.to_hex(),
        None => "the record of that key".to_owned(),
    };
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
            "it was {was}, attempt {} of {}, first claimed {} ago, label {}",
            found.attempt,
            plain(&found.operation),
            short(found.age),
            found.label.as_deref().map_or("-".into(), plain),
        ))?;
    }
    output.line(
        "a process that has replayed its response may do so for up to 10 s more, from its cache",
    )?;
    output.line("who and why is in the log line on standard error only: the record that could keep it is gone")?;
    Ok(Answer::Yes)
}
