//! `idempotent show`: what is stored for a key. Of a response, its size and the names of its headers, unless
//! `--reveal` asks for the rest.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use idempotent_runtime::{AuditLine, Inspection, RecordState, StoredResponse};
use serde_json::{Map, Value, json};

use crate::arguments::{Settings, Show};
use crate::failure::Failure;
use crate::json::seconds;
use crate::output::{Output, Tone, bytes, plain};
use crate::place::Place;
use crate::time::short;
use crate::{Answer, selection, settings};

pub(crate) async fn run(
    settings: &Settings,
    command: &Show,
    output: &mut Output,
) -> Result<Answer, Failure> {
    let idempotency = settings::open(settings).await?;
    let mut shown = 0;
    for selected in selection::all(&idempotency, &command.selector).await? {
        let Some(found) = idempotency.inspect(&selected.locator).await? else {
            continue;
        };
        if command.json {
            output.line(as_json(&found, command.reveal).to_string())?;
        } else {
            if shown > 0 {
                output.line("")?;
            }
            as_text(&found, command.reveal, output)?;
        }
        shown += 1;
    }
    if shown == 0 {
        not_found(settings, output, command.json)?;
        return Ok(Answer::No);
    }
    Ok(Answer::Yes)
}

/// The same words for every command.
#[expect(clippy::print_stderr, reason = "a command line tool talks to its user")]
pub(crate) fn not_found(
    settings: &Settings,
    output: &mut Output,
    is_json: bool,
) -> Result<(), Failure> {
    let place = Place::of(settings);
    let line = format!(
        "no such record in {place}: the key was not used there, its record has expired, or another operator has freed it \
         (`resolve --retry`, `forget`); or the label, namespace, secret, scope or operation is another. {}",
        place.question()
    );
    match is_json {
        true => eprintln!("{line}"),
        false => output.line(line)?,
    }
    Ok(())
}

fn as_text(found: &Inspection, reveal: bool, output: &mut Output) -> Result<(), Failure> {
    output.field("record", found.record_key.to_hex())?;
    if found.handler_record_key() != found.record_key {
        output.field("handler's", found.handler_record_key().to_hex())?;
    }
    output.field("state", state(&found.state, output))?;
    output.field("operation", plain(&found.operation))?;
    output.field("label", found.label.as_deref().map_or("-".into(), plain))?;
    output.field("attempt", found.attempt.to_string())?;
    output.field("seen", found.seen().to_string())?;
    output.field("first claim", format!("{} ago", short(found.age)))?;
    output.field("expires", format!("in {}", short(found.expires_in)))?;
    match found.steps() {
        Ok(steps) if steps.is_empty() => {}
        Ok(steps) => {
            let steps: Vec<_> = steps.into_iter().map(plain).collect();
            output.field("finished", steps.join(", "))?;
        }
        Err(error) => output.field("finished", format!("steps that cannot be read: {error}"))?,
    }
    if let RecordState::Completed(response) = &found.state {
        of_response(response, reveal, output)?;
    }
    Ok(())
}

fn state(state: &RecordState, output: &Output) -> String {
    match state {
        RecordState::Running { lease_left } => {
            let left = short(*lease_left);
            format!(
                "{}, its lease ends in {left} unless it is renewed",
                output.toned(Tone::Notice, "in-flight")
            )
        }
        RecordState::Abandoned => {
            format!(
                "{}: it is unknown whether it was done",
                output.toned(Tone::Bad, "abandoned")
            )
        }
        RecordState::Completed(_) => output.toned(Tone::Good, "completed"),
        _ => "unknown".to_owned(),
    }
}

fn of_response(
    response: &StoredResponse,
    reveal: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    output.field(
        "status",
        match response.status {
            0 => "- (a value, not an HTTP response)".to_owned(),
            status => status.to_string(),
        },
    )?;
    output.field("headers", response.headers.len().to_string())?;
    output.field(
        "body",
        match body_of(response) {
            Some(body) => bytes(body.len() as u64),
            None => "not stored (it was too large, or it failed)".to_owned(),
        },
    )?;
    if let Some(trailers) = response.trailers() {
        output.field("trailers", trailers.len().to_string())?;
    }
    if let Some(context) = response.trace_context() {
        output.field("trace", plain(context))?;
    }
    if let Some(audit) = response.audit() {
        output.field(
            "resolved by",
            format!("{}, {}", plain(audit.by()), when(audit.at())),
        )?;
        output.field("reason", plain(audit.reason()))?;
    }
    if !reveal {
        return Ok(());
    }
    output.line("")?;
    for (name, value) in response
        .headers
        .iter()
        .chain(response.trailers().into_iter().flatten())
    {
        output.line(format!(
            "{name}: {}",
            plain(&String::from_utf8_lossy(value.as_bytes()))
        ))?;
    }
    output.line("")?;
    let body = String::from_utf8_lossy(body_of(response).unwrap_or_default()).into_owned();
    for line in body.split('\n') {
        output.line(plain(line))?;
    }
    Ok(())
}

fn as_json(found: &Inspection, reveal: bool) -> Value {
    let (state, lease_left) = match &found.state {
        RecordState::Running { lease_left } => ("in-flight", seconds(*lease_left)),
        RecordState::Abandoned => ("abandoned", json!(0.0)),
        RecordState::Completed(_) => ("completed", json!(0.0)),
        _ => ("unknown", Value::Null),
    };
    let mut shown = json!({
        "record": found.record_key.to_hex(),
        "handler_record": found.handler_record_key().to_hex(),
        "state": state,
        "attempt": found.attempt,
        "seen": found.seen().to_string(),
        "operation": *found.operation,
        "label": found.label.as_deref(),
        "age_secs": seconds(found.age),
        "lease_left_secs": lease_left,
        "expires_in_secs": seconds(found.expires_in),
        "finished_steps": found.steps().ok(),
    });
    if let (RecordState::Completed(response), Some(shown)) = (&found.state, shown.as_object_mut()) {
        shown.insert("response".to_owned(), response_json(response, reveal));
    }
    shown
}

fn response_json(response: &StoredResponse, reveal: bool) -> Value {
    let audit = response
        .audit()
        .map(|audit| json!({ "by": audit.by(), "reason": audit.reason(), "at": when(audit.at()) }));
    let body_bytes = body_of(response).map(<[u8]>::len);
    let mut shown = Map::new();
    shown.insert("status".to_owned(), json!(response.status));
    shown.insert("header_count".to_owned(), json!(response.headers.len()));
    shown.insert("body_bytes".to_owned(), json!(body_bytes));
    shown.insert("trace_context".to_owned(), json!(response.trace_context()));
    shown.insert("audit".to_owned(), json!(audit));
    if reveal {
        let headers = response.headers.iter();
        let headers: Vec<_> = headers
            .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
            .collect();
        shown.insert("headers".to_owned(), json!(headers));
        if let Some(body) = body_of(response) {
            match std::str::from_utf8(body) {
                Ok(text) => shown.insert("body".to_owned(), json!(text)),
                Err(_) => shown.insert("body_hex".to_owned(), json!(hex(body))),
            };
        }
    }
    Value::Object(shown)
}

/// The body as a client gets it: the result of a function without the byte for the version of its form.
fn body_of(response: &StoredResponse) -> Option<&[u8]> {
    let body = response.body.as_deref()?;
    match response.status {
        0 => body.get(1..),
        _ => Some(body),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 3339, in UTC, to a second: `2026-05-04T09:30:00Z`.
fn when(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date so many days after 1970-01-01: Howard Hinnant's `civil_from_days`, for the years of Unix time.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// Who decided what, for a line of text.
pub(crate) fn audit_text(audit: &AuditLine) -> String {
    format!(
        "{}, {}: {}",
        plain(audit.by()),
        when(audit.at()),
        plain(audit.reason())
    )
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_777_887_000, "2026-05-04T09:30:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(when(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_functions_value_is_its_json() {
        let value = StoredResponse::of_value(&json!({ "id": 7 })).unwrap();
        let shown = response_json(&value, true);
        assert_eq!(
            (&shown["body"], &shown["body_bytes"]),
            (&json!("{\"id\":7}"), &json!(8))
        );
    }

    #[test]
    fn only_a_revealed_response_has_its_values_and_its_body() {
        let mut headers = HeaderMap::new();
        headers.insert("x-receipt", "canary-value".parse().unwrap());
        let response = StoredResponse::new(StatusCode::CREATED, headers, "canary-body");
        let hidden = response_json(&response, false).to_string();
        assert!(!hidden.contains("canary"), "{hidden}");
        let shown = response_json(&response, true).to_string();
        assert!(
            shown.contains("canary-value") && shown.contains("canary-body"),
            "{shown}"
        );
    }
}
