//! A response as the page or as the JSON that was asked for, and what is said when something cannot be done.

use axum::Json;
use axum::response::{Html, IntoResponse, Response};
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, StatusCode};
use maud::{Markup, html};
use serde::Serialize;

use super::failure::Failure;
use super::html;
use super::visit::Visit;

/// The one or the other; the other is not made.
pub(super) fn reply<J: Serialize>(
    visit: &Visit,
    status: StatusCode,
    title: &str,
    json: impl FnOnce() -> J,
    content: impl FnOnce() -> Markup,
) -> Response {
    if visit.wants_json {
        return (status, Json(json())).into_response();
    }
    let page = html::page(visit, title, &content());
    (status, Html(page.into_string())).into_response()
}

/// Sends a browser to a record's page, by the digits of its key.
pub(super) fn redirect(visit: &Visit, digits: &str) -> Response {
    let location = format!("{}records/{digits}", visit.root);
    (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response()
}

/// RFC 9457.
#[derive(Serialize)]
struct ProblemJson<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
}

/// Says why it was not answered.
pub(super) fn refuse(visit: &Visit, failure: &Failure) -> Response {
    let Failure {
        status,
        title,
        detail,
        unreadable,
    } = failure;
    let problem = || ProblemJson {
        title,
        status: status.as_u16(),
        detail,
    };
    let content = || {
        html! {
            div.card.notice.bad role="alert" { p { (detail) } }
            @if let Some(key) = unreadable { (html::forget_unreadable(visit, *key)) }
            (html::find(visit))
        }
    };
    let mut response = reply(visit, *status, title, problem, content);
    if visit.wants_json {
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, problem);
    }
    response
}
