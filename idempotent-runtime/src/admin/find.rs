//! `POST /find`: the record of a client's key.
//!
//! A client that complains has a key and not a record key. Both it and its scope may be secrets, so they are sent in a
//! request's body, which no address bar and no access log has, and appear in no answer.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::failure::Failure;
use super::json::RecordJson;
use super::origin::is_json;
use super::reply::{redirect, refuse};
use super::visit::Visit;
use crate::{Error, ErrorKind, Idempotency, Inspection, Locator};

/// What names a record for its client.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    operation: String,
    key: String,
    /// JSON as text; empty if there is no scope.
    scope: String,
    /// `text` for a key of `execute`; `header`, or nothing, for a header's.
    kind: String,
}

pub(super) async fn find(
    State(idempotency): State<Idempotency>,
    visit: Visit,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let locator = match read(&headers, &body) {
        Ok(locator) => locator,
        Err(detail) => return refuse(&visit, &Failure::bad_request(detail)),
    };
    match idempotency.inspect(&locator).await {
        Ok(Some(found)) => show(&visit, &found),
        Ok(None) => refuse(&visit, &none()),
        Err(error) => refuse(&visit, &failure(&error)),
    }
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<Locator, &'static str> {
    let wanted: Option<Wanted> = if is_json(headers) {
        serde_json::from_slice(body).ok()
    } else {
        serde_urlencoded::from_bytes(body).ok()
    };
    let wanted = wanted.ok_or("What is to be found has `operation`, `key`, `scope` and `kind`.")?;
    let locator = match wanted.kind.as_str() {
        "text" => Locator::by_text(wanted.operation, wanted.key),
        "" | "header" => Locator::new(wanted.operation, wanted.key),
        _ => return Err("The `kind` of a key is header or text."),
    };
    if wanted.scope.trim().is_empty() {
        return Ok(locator);
    }
    let scope: Result<serde_json::Value, _> = serde_json::from_str(&wanted.scope);
    let scope = scope.map_err(|_| "The scope is JSON: a text has quotes, a tuple is an array.")?;
    Ok(locator.scope(&scope))
}

/// A program gets the record, a browser is sent to its page.
fn show(visit: &Visit, found: &Inspection) -> Response {
    if visit.wants_json {
        return Json(RecordJson::new(found, false)).into_response();
    }
    redirect(visit, &found.record_key.to_hex())
}

fn none() -> Failure {
    let detail = "There is no record of this operation, scope and key. The key is free, or one of the three is another one: \
                  the operation is the method and the route with all prefixes, or the handler's name.";
    Failure::new(StatusCode::NOT_FOUND, "No such record", detail)
}

fn failure(error: &Error) -> Failure {
    match error.kind() {
        ErrorKind::InvalidLocator => {
            Failure::bad_request("The key is not one that a client can send.")
        }
        _ => Failure::of_store(error, ""),
    }
}
