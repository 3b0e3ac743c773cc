//! The same as the pages, as JSON. Durations are in milliseconds.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use serde::Serialize;

use super::outcome::Outcome;
use super::page::Page;
use super::survey::{BOUNDS_SECS, BUCKETS, Survey, Tallies, Tally};
use super::words::{base64, name_of, time};
use crate::store::{ListedRecord, RecordStatus};
use crate::{Inspection, RecordState, StoredResponse};

#[derive(Serialize)]
pub(super) struct OverviewJson<'a> {
    totals: TalliesJson,
    operations: Vec<OperationJson<'a>>,
    has_more_operations: bool,
    /// The upper bounds of `by_age`; what is older is in its last element.
    age_bounds_secs: [u64; BOUNDS_SECS.len()],
}

#[derive(Serialize)]
struct OperationJson<'a> {
    operation: &'a str,
    #[serde(flatten)]
    tallies: TalliesJson,
}

#[derive(Serialize)]
struct TalliesJson {
    abandoned: TallyJson,
    in_flight: TallyJson,
    completed: TallyJson,
}

#[derive(Serialize)]
struct TallyJson {
    count: usize,
    /// Whether there may be more.
    is_at_least: bool,
    oldest_ms: u64,
    by_age: [usize; BUCKETS],
}

impl<'a> From<&'a Survey> for OverviewJson<'a> {
    fn from(survey: &'a Survey) -> Self {
        let operations = survey.operations.iter();
        Self {
            totals: (&survey.totals).into(),
            operations: operations
                .map(|(operation, tallies)| OperationJson {
                    operation,
                    tallies: tallies.into(),
                })
                .collect(),
            has_more_operations: survey.has_more_operations,
            age_bounds_secs: BOUNDS_SECS,
        }
    }
}

impl From<&Tallies> for TalliesJson {
    fn from([abandoned, in_flight, completed]: &Tallies) -> Self {
        Self {
            abandoned: abandoned.into(),
            in_flight: in_flight.into(),
            completed: completed.into(),
        }
    }
}

impl From<&Tally> for TallyJson {
    fn from(tally: &Tally) -> Self {
        Self {
            count: tally.count,
            is_at_least: tally.is_partial,
            oldest_ms: millis(tally.oldest),
            by_age: tally.by_age,
        }
    }
}

#[derive(Serialize)]
pub(super) struct ListJson<'a> {
    records: Vec<ListedJson<'a>>,
    /// The `after` of the next page.
    next: Option<String>,
}

#[derive(Serialize)]
struct ListedJson<'a> {
    key: String,
    state: &'static str,
    operation: &'a str,
    label: Option<&'a str>,
    attempt: u32,
    age_ms: u64,
    lease_left_ms: u64,
    expires_in_ms: u64,
}

impl<'a> From<&'a Page> for ListJson<'a> {
    fn from(page: &'a Page) -> Self {
        Self {
            records: page.records.iter().map(Into::into).collect(),
            next: page.next.as_ref().map(ToString::to_string),
        }
    }
}

impl<'a> From<&'a ListedRecord> for ListedJson<'a> {
    fn from(record: &'a ListedRecord) -> Self {
        Self {
            key: record.key.to_hex(),
            state: name_of(record.status),
            operation: &record.operation,
            label: record.label.as_deref(),
            attempt: record.attempt,
            age_ms: millis(record.age),
            lease_left_ms: millis(record.lease_left),
            expires_in_ms: millis(record.expires_in),
        }
    }
}

#[derive(Serialize)]
pub(super) struct RecordJson<'a> {
    key: String,
    state: &'static str,
    operation: &'a str,
    label: Option<&'a str>,
    attempt: u32,
    /// The attempt of this record, for a decision about it.
    seen: String,
    age_ms: u64,
    lease_left_ms: Option<u64>,
    expires_in_ms: u64,
    /// The labels of finished steps; `None` if they cannot be read.
    steps: Option<Vec<&'a str>>,
    response: Option<ResponseJson<'a>>,
}

#[derive(Serialize)]
struct ResponseJson<'a> {
    /// 0 for the result of a function without HTTP.
    status: u16,
    header_names: Vec<&'a str>,
    trailer_names: Vec<&'a str>,
    /// `None` if the body was not kept.
    body_bytes: Option<usize>,
    trace_context: Option<&'a str>,
    audit: Option<AuditJson<'a>>,
    #[serde(flatten)]
    revealed: Option<RevealedJson>,
}

#[derive(Serialize)]
struct AuditJson<'a> {
    by: &'a str,
    reason: &'a str,
    at: String,
}

/// What is shown on request alone. A header's value that is not text is shown with replacement characters.
#[derive(Serialize)]
struct RevealedJson {
    headers: Vec<(String, String)>,
    trailers: Vec<(String, String)>,
    body_base64: Option<String>,
}

impl<'a> RecordJson<'a> {
    pub(super) fn new(found: &'a Inspection, is_revealed: bool) -> Self {
        let (lease_left, response) = match &found.state {
            RecordState::Running { lease_left } => (Some(*lease_left), None),
            RecordState::Abandoned => (None, None),
            RecordState::Completed(response) => (None, Some(response)),
        };
        Self {
            key: found.record_key.to_hex(),
            state: name_of(status_of(&found.state)),
            operation: &found.operation,
            label: found.label.as_deref(),
            attempt: found.attempt,
            seen: found.seen().to_string(),
            age_ms: millis(found.age),
            lease_left_ms: lease_left.map(millis),
            expires_in_ms: millis(found.expires_in),
            steps: found.steps().ok(),
            response: response.map(|it| ResponseJson::new(it, is_revealed)),
        }
    }
}

impl<'a> ResponseJson<'a> {
    fn new(response: &'a StoredResponse, is_revealed: bool) -> Self {
        let names = |headers: &'a HeaderMap| headers.keys().map(HeaderName::as_str).collect();
        Self {
            status: response.status,
            header_names: names(&response.headers),
            trailer_names: response.trailers().map(names).unwrap_or_default(),
            body_bytes: body_of(response).map(<[u8]>::len),
            trace_context: response.trace_context(),
            audit: response.audit().map(|audit| AuditJson {
                by: audit.by(),
                reason: audit.reason(),
                at: time(audit.at()),
            }),
            revealed: is_revealed.then(|| RevealedJson {
                headers: pairs(&response.headers),
                trailers: response.trailers().map(pairs).unwrap_or_default(),
                body_base64: body_of(response).map(base64),
            }),
        }
    }
}

#[derive(Serialize)]
pub(super) struct DecidedJson<'a> {
    outcome: &'static str,
    detail: &'a str,
    /// As it is now; `None` without one.
    record: Option<RecordJson<'a>>,
}

impl<'a> DecidedJson<'a> {
    pub(super) fn new(outcome: &'a Outcome, found: Option<&'a Inspection>) -> Self {
        Self {
            outcome: outcome.name,
            detail: &outcome.detail,
            record: found.map(|found| RecordJson::new(found, false)),
        }
    }
}

/// Names and values, in order and with repeats.
pub(super) fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let headers = headers.iter();
    headers
        .map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())))
        .collect()
}

/// The body as a client gets it: the result of a function without the byte for the version of its form.
pub(super) fn body_of(response: &StoredResponse) -> Option<&[u8]> {
    let body = response.body.as_deref()?;
    if response.status == 0 {
        body.get(1..)
    } else {
        Some(body)
    }
}

pub(super) fn status_of(state: &RecordState) -> RecordStatus {
    match state {
        RecordState::Running { .. } => RecordStatus::InFlight,
        RecordState::Abandoned => RecordStatus::Abandoned,
        RecordState::Completed(_) => RecordStatus::Completed,
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn trace_context_is_shown_and_contents_are_not() {
        let trace_context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let response = StoredResponse::new(StatusCode::OK, HeaderMap::new(), "canary")
            .with_trace_context(trace_context);
        let json = serde_json::to_value(ResponseJson::new(&response, false)).unwrap();
        assert_eq!(json["trace_context"], trace_context);
        assert_eq!(json["body_bytes"], 6);
        assert!(json.get("body_base64").is_none() && json.get("headers").is_none());
    }
}
