//! `idempotent resolve`: a person's decision about an abandoned key, carried out and kept.

use std::path::Path;
use std::time::Duration;

use idempotent_runtime::{AuditLine, Inspection, Resolution};

use crate::arguments::{Decision, Resolve, Settings, Verdict};
use crate::failure::Failure;
use crate::output::{Output, Tone, plain};
use crate::show::{audit_text, not_found};
use crate::time::short;
use crate::verdict::recovery;
use crate::{Answer, selection, settings};

/// How long what was begun may take to end, once it is decided.
const ENDING: Duration = Duration::from_secs(30);

pub(crate) async fn run(
    settings: &Settings,
    command: &Resolve,
    output: &mut Output,
) -> Result<Answer, Failure> {
    let audit = audit(&command.decision)?;
    must_read_one_input(command)?;
    // Before the store is asked for anything: a mistake in a file is no decision.
    let recovery = recovery(&command.what)?;
    let idempotency = settings::open_with_ttl(settings, ttl(&command.what)?).await?;
    let Some(selected) = selection::abandoned(&idempotency, &command.selector).await? else {
        not_found(settings, output, false)?;
        return Ok(Answer::No);
    };
    let Some(found) = idempotency.inspect(&selected.locator).await? else {
        not_found(settings, output, false)?;
        return Ok(Answer::No);
    };
    about(&found, output)?;
    must_fit(command, &found.operation)?;
    // What is printed is what is decided about. A client's key can have another record for each secret.
    let seen = command.seen.or(selected.key.map(|_| found.seen()));
    let locator = match seen {
        Some(seen) => selected.locator.seen(seen),
        None => selected.locator,
    };
    let resolution = idempotency.resolve_as(&locator, recovery, &audit).await;
    idempotency.shutdown(ENDING).await;
    let resolution = resolution.map_err(|error| Failure::of_decision(&error))?;
    tell(&resolution, settings, command, &audit, output)
}

/// Which record, and which attempt of it.
fn about(found: &Inspection, output: &mut Output) -> Result<(), Failure> {
    let label = found.label.as_deref().map_or("-".into(), plain);
    output.field("record", found.record_key.to_hex())?;
    output.line(format!(
        "attempt {} of {}, first claimed {} ago, label {label}",
        found.attempt,
        plain(&found.operation),
        short(found.age),
    ))?;
    Ok(())
}

/// A function's caller gets an error for a response, and a client an error for a result. The name of an operation can
/// stand for either, but a method and a route are a handler's.
#[expect(clippy::print_stderr, reason = "a command line tool talks to its user")]
fn must_fit(command: &Resolve, operation: &str) -> Result<(), Failure> {
    let what = &command.what;
    let is_response = what.replay.is_some() || what.status.is_some();
    if is_response && !is_route(operation) {
        eprintln!(
            "note: if `{}` is a function without HTTP, its callers cannot use a response: use --value",
            plain(operation)
        );
    }
    match what.value.is_some() && is_route(operation) && !command.yes {
        true => Err(Failure::with_remedy(
            "nothing was changed: the operation reads like the method and route of a handler, whose clients cannot use \
             a value. Every retry would get 500, and a decision cannot be taken back",
            "use --replay with the response, or --yes if it is a function without HTTP",
        )),
        false => Ok(()),
    }
}

fn is_route(operation: &str) -> bool {
    let parts = operation.split_once(' ');
    parts.is_some_and(|(_, path)| path.starts_with('/'))
}

/// The input is either the response, or the key.
fn must_read_one_input(command: &Resolve) -> Result<(), Failure> {
    let file = command.what.replay.as_ref().or(command.what.value.as_ref());
    let is_response = file.is_some_and(|file| file == Path::new("-"));
    let is_key = command.selector.key.key_stdin || command.selector.scope.scope_json_stdin;
    match is_response && is_key {
        true => Err(Failure::new(
            "standard input cannot be both the response or value and the key: put one of them into a file",
        )),
        false => Ok(()),
    }
}

/// Who and why, as it will be kept.
pub(crate) fn audit(decision: &Decision) -> Result<AuditLine, Failure> {
    let by = decision.by.as_deref().unwrap_or_default();
    if by.trim().is_empty() {
        return Err(Failure::with_remedy(
            "the decision has no name",
            "use --by NAME, or set USER",
        ));
    }
    if decision.reason.trim().is_empty() {
        return Err(Failure::with_remedy(
            "the decision has no reason",
            "--reason TEXT is required: it is logged with the decision",
        ));
    }
    Ok(AuditLine::new(by, &decision.reason))
}

fn ttl(verdict: &Verdict) -> Result<Duration, Failure> {
    let range = Duration::from_secs(1)..=idempotent_runtime::Policy::MAX_DURATION;
    match range.contains(&verdict.ttl) {
        true => Ok(verdict.ttl),
        false => Err(Failure::new("--ttl is one second to ten years")),
    }
}

fn tell(
    resolution: &Resolution,
    settings: &Settings,
    command: &Resolve,
    audit: &AuditLine,
    output: &mut Output,
) -> Result<Answer, Failure> {
    let line = match resolution {
        Resolution::Resolved => {
            output.line(format!("{}: {}", output.toned(Tone::Good, "resolved"), done(&command.what)))?;
            output.line(format!("decided by {}", audit_text(audit)))?;
            return Ok(Answer::Yes);
        }
        Resolution::NotFound => {
            not_found(settings, output, false)?;
            return Ok(Answer::No);
        }
        Resolution::Running { lease_left } => format!(
            "nothing was changed: an attempt is running, or another operator is deciding at this moment; the lease ends in {} \
             unless it is renewed; look again then",
            short(*lease_left)
        ),
        Resolution::Completed(response) => match response.audit() {
            Some(audit) => format!("nothing was changed: it was resolved before, by {}", audit_text(audit)),
            None => "nothing was changed: it is completed, and its response is replayed".to_owned(),
        },
        Resolution::Changed => {
            "nothing was changed: meanwhile the attempt was taken over, resolved by another operator, or forgotten; look again".to_owned()
        }
        _ => "nothing was changed: it is abandoned as before".to_owned(),
    };
    output.line(line)?;
    Ok(Answer::No)
}

fn done(verdict: &Verdict) -> String {
    let ttl = short(verdict.ttl);
    match (verdict.retry, &verdict.value) {
        (true, _) => "the key is free, and the next request with it runs, unless the key is too old for its operation (`key_age`), or has another abandoned record (while a secret is rotated)".to_owned(),
        (false, None) => format!("requests with this key get this response for at least {ttl}"),
        (false, Some(_)) => format!("calls with this key return this value for at least {ttl}"),
    }
}
