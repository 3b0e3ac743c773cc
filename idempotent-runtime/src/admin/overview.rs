//! `GET /` and `GET /overview`. The latter is what the pages link to: a router that is nested by `nest` has no route for
//! its prefix with a slash at its end.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::failure::Failure;
use super::html;
use super::json::OverviewJson;
use super::reply::{refuse, reply};
use super::survey::Survey;
use super::visit::Visit;
use crate::Idempotency;

pub(super) async fn show(State(idempotency): State<Idempotency>, visit: Visit) -> Response {
    match Survey::take(&idempotency).await {
        Ok(survey) => reply(
            &visit,
            StatusCode::OK,
            "Overview",
            || OverviewJson::from(&survey),
            || html::overview(&visit, &survey),
        ),
        Err(failure) => refuse(&visit, &failure),
    }
}

/// What no route has.
pub(super) async fn fallback(visit: Visit) -> Response {
    refuse(&visit, &Failure::no_such_page())
}
