//! What an operator has written into a form, or a program into JSON.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use mime::Mime;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::failure::Failure;
use super::json::status_of;
use super::origin::{is_form, is_json};
use super::visit::Visit;
use super::words::{name_of, reads_like_route};
use crate::{AuditLine, Inspection, Recovery, Seen, StoredResponse};

/// The state of a record of which nothing is known.
pub(super) const UNREADABLE: &str = "unreadable";

/// A decision, before it is checked. Also what the form is filled with when it is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Draft {
    /// `retry`, `replay`, `replay-value` or `forget`.
    pub(super) decision: String,
    /// Why, for the audit line.
    pub(super) reason: String,
    /// Which attempt of which record the decision is about: the one that the operator has looked at.
    #[serde(deserialize_with = "seen")]
    pub(super) seen: Option<Seen>,
    /// The status of the answer.
    #[serde(deserialize_with = "number")]
    pub(super) status: u16,
    pub(super) content_type: String,
    /// The body of the answer; for `replay-value`, JSON as text.
    pub(super) body: String,
    /// The state that the operator has looked at, for `forget`; `unreadable` if the record could not be read.
    pub(super) state: String,
    /// `yes`, for `forget`, and for `replay-value` about an operation that reads like a handler's.
    pub(super) confirm: String,
}

impl Draft {
    /// Reads a request's body.
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Failure> {
        if is_json(headers) {
            return read(serde_json::from_slice(body));
        }
        if !is_form(headers) {
            let detail = "A decision is a form, or JSON.";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Failure::new(status, "Not understood", detail));
        }
        let mut draft: Self = read(serde_urlencoded::from_bytes(body))?;
        // What every browser makes of a line's end.
        draft.body = draft.body.replace("\r\n", "\n");
        Ok(draft)
    }

    /// What the decision is about.
    ///
    /// # Errors
    ///
    /// When it does not say so: no form of the page is like that.
    pub(super) fn about(&self) -> Result<Seen, Failure> {
        let detail = "A decision says what it is about: `seen`, as the record has it.";
        self.seen.ok_or_else(|| Failure::bad_request(detail))
    }

    /// Whether it was made about what is there now.
    pub(super) fn is_about(&self, found: &Inspection) -> bool {
        let state = name_of(status_of(&found.state));
        self.seen == Some(found.seen()) && (self.state.is_empty() || self.state == state)
    }

    /// The decision about an abandoned record.
    ///
    /// # Errors
    ///
    /// What has to be written otherwise.
    pub(super) fn recovery(&self) -> Result<Recovery, &'static str> {
        match self.decision.as_str() {
            "retry" => Ok(Recovery::Retry),
            "replay" => self.response().map(Recovery::Replay),
            "replay-value" => self.value().map(Recovery::Replay),
            _ => Err("The decision is retry, replay or replay-value."),
        }
    }

    /// What is wrong with the decision for this operation. A name can stand for a handler or a function, but a method and
    /// a route are a handler's.
    pub(super) fn misfit(&self, operation: &str) -> Option<&'static str> {
        let is_value = self.decision == "replay-value" && self.confirm != "yes";
        (is_value && reads_like_route(operation)).then_some(
            "The operation reads like the method and route of a handler, whose clients cannot use a value. Every retry \
             would get 500, and a decision cannot be taken back. Decide with an answer (replay), or confirm that it is a \
             function without HTTP (confirm: yes).",
        )
    }

    /// Who decided and why.
    ///
    /// # Errors
    ///
    /// When there is no reason.
    pub(super) fn audit(&self, visit: &Visit) -> Result<AuditLine, &'static str> {
        match self.reason.trim() {
            "" => Err("A decision needs a reason. It is stored with the record, or logged."),
            reason => Ok(AuditLine::new(&visit.by, reason)),
        }
    }

    fn response(&self) -> Result<StoredResponse, &'static str> {
        let status = StatusCode::from_u16(self.status).ok();
        let status = status.filter(|it| (200..=599).contains(&it.as_u16()));
        let status = status.ok_or("The status is a number from 200 to 599.")?;
        if matches!(status.as_u16(), 204 | 205 | 304) && !self.body.is_empty() {
            return Err("A response with this status has no body.");
        }
        let mut headers = HeaderMap::new();
        match self.content_type.trim() {
            "" => {}
            text => {
                let wrong = "The content type is a media type: type/subtype, and parameters such as `; charset=utf-8`.";
                let is_whole = |it: &Mime| !it.subtype().as_str().is_empty();
                text.parse().ok().filter(is_whole).ok_or(wrong)?;
                headers.insert(
                    CONTENT_TYPE,
                    HeaderValue::from_str(text).map_err(|_| wrong)?,
                );
            }
        }
        Ok(StoredResponse::new(status, headers, self.body.clone()))
    }

    fn value(&self) -> Result<StoredResponse, &'static str> {
        StoredResponse::of_json(self.body.as_bytes()).map_err(|error| match error.is_data() {
            true => "The value has a number that JSON of 64 bits cannot hold, or a member twice.",
            false => "The value is not JSON.",
        })
    }
}

fn read<T, E: std::fmt::Display>(read: Result<T, E>) -> Result<T, Failure> {
    read.map_err(|error| Failure::bad_request(format!("The decision cannot be read: {error}.")))
}

/// As a record's page has it. Empty text counts as missing.
fn seen<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Seen>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let seen = text.trim().parse();
    seen.map(Some)
        .map_err(|_| serde::de::Error::custom("`seen` is not as a record has it"))
}

/// A number, or text that is one: a form has text alone. Empty text is 0.
fn number<'de, D, N>(deserializer: D) -> Result<N, D::Error>
where
    D: serde::Deserializer<'de>,
    N: DeserializeOwned + std::str::FromStr + Default,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written<N> {
        Number(N),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Number(number) => Ok(number),
        Written::Text(text) if text.trim().is_empty() => Ok(N::default()),
        Written::Text(text) => {
            let number = text.trim().parse();
            number.map_err(|_| serde::de::Error::custom("not a number"))
        }
    }
}
