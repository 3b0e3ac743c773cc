//! `idempotent resolve`: a person's decision about an abandoned key, carried out and kept.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use idempotent_runtime::{AuditLine, Recovery, Resolution, StoredResponse};

use crate::arguments::{Decision, Resolve, Settings, Verdict};
use crate::failure::Failure;
use crate::output::{Output, Tone};
use crate::show::{audit_text, not_found};
use crate::time::short;
use crate::{Answer, response, selection, settings};

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
    let Some(locator) = selection::one(&idempotency, &command.selector).await? else {
        not_found(output, false)?;
        return Ok(Answer::No);
    };
    let resolution = idempotency.resolve_as(&locator, recovery, &audit).await;
    idempotency.shutdown(ENDING).await;
    tell(&resolution?, command, &audit, output)
}

/// The input is either the response, or the key.
fn must_read_one_input(command: &Resolve) -> Result<(), Failure> {
    let is_response = command.what.replay.as_deref() == Some(Path::new("-"));
    let is_key = command.selector.key.key_stdin || command.selector.scope.scope_json_stdin;
    match is_response && is_key {
        true => Err(Failure::new(
            "the input cannot be both the response and the key: put one of them into a file",
        )),
        false => Ok(()),
    }
}

/// Who and why, as it will be kept.
pub(crate) fn audit(decision: &Decision) -> Result<AuditLine, Failure> {
    let by = decision.by.as_deref().unwrap_or_default();
    if by.trim().is_empty() {
        return Err(Failure::with_remedy(
            "who decides?",
            "say --by NAME, or set USER",
        ));
    }
    if decision.reason.trim().is_empty() {
        return Err(Failure::with_remedy(
            "why?",
            "say --reason TEXT: people will ask",
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

fn recovery(verdict: &Verdict) -> Result<Recovery, Failure> {
    if verdict.retry {
        return Ok(Recovery::Retry);
    }
    let file = verdict.replay.as_deref().map(contents).transpose()?;
    let response = match (verdict.status, file) {
        (Some(status), body) => raw(status, verdict.content_type.as_deref(), body)?,
        (None, Some(message)) => parsed(&message)?,
        (None, None) => return Err(Failure::new("say --replay, --status or --retry")),
    };
    Ok(Recovery::Replay(response))
}

fn raw(
    status: StatusCode,
    content_type: Option<&str>,
    body: Option<Vec<u8>>,
) -> Result<StoredResponse, Failure> {
    let mut headers = HeaderMap::new();
    if let Some(content_type) = content_type {
        let value = HeaderValue::from_str(content_type);
        let value = value.map_err(|_| Failure::new("--content-type is not a header's value"))?;
        headers.insert(header::CONTENT_TYPE, value);
    }
    Ok(StoredResponse::new(
        status,
        headers,
        body.unwrap_or_default(),
    ))
}

#[expect(clippy::print_stderr, reason = "a command line tool talks to its user")]
fn parsed(message: &[u8]) -> Result<StoredResponse, Failure> {
    let read = response::parse(message);
    let read =
        read.map_err(|why| Failure::new(format!("the file of --replay is not a response: {why}")))?;
    for name in read.left_out {
        eprintln!("note: the header `{name}` is left out: it is never replayed");
    }
    Ok(read.response)
}

fn contents(file: &Path) -> Result<Vec<u8>, Failure> {
    let contents = match file == Path::new("-") {
        true => {
            let mut contents = Vec::new();
            std::io::stdin()
                .read_to_end(&mut contents)
                .map(|_| contents)
        }
        false => std::fs::read(file),
    };
    contents.map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))
}

fn tell(
    resolution: &Resolution,
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
            not_found(output, false)?;
            return Ok(Answer::No);
        }
        Resolution::Running { lease_left } => format!(
            "nothing was changed: an attempt is running, and its lease ends in {} unless it is renewed; look again then",
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
    match verdict.retry {
        true => "the key is free, and the next request with it runs".to_owned(),
        false => format!(
            "requests with this key get this response for {}",
            short(verdict.ttl)
        ),
    }
}
