//! `GET /`.

use axum::extract::State;
use axum::response::Response;
use http::{Method, StatusCode, Uri};

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
        Err(error) => refuse(&visit, &Failure::of_store(&error, "")),
    }
}

/// What no route has. A router that is nested has no route for its own prefix with a slash at its end, to which the
/// pages link: it ends here.
pub(super) async fn fallback(
    state: State<Idempotency>,
    method: Method,
    uri: Uri,
    visit: Visit,
) -> Response {
    match method {
        Method::GET | Method::HEAD if uri.path() == "/" => show(state, visit).await,
        _ => refuse(&visit, &Failure::no_such_page()),
    }
}
