//! `GET /records`.

use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};

use super::failure::{Failure, is_unsupported};
use super::html;
use super::json::ListJson;
use super::page::Page;
use super::prefix::Prefix;
use super::query::Query;
use super::reply::{redirect, refuse, reply};
use super::visit::Visit;
use crate::store::RecordStatus;
use crate::{Idempotency, RecordKey};

pub(super) async fn show(
    State(idempotency): State<Idempotency>,
    uri: Uri,
    visit: Visit,
) -> Response {
    let query = match Query::read(uri.query().unwrap_or_default()) {
        Ok(query) => query,
        Err(detail) => return refuse(&visit, &Failure::bad_request(detail)),
    };
    if let Some(key) = &query.key {
        return open(&visit, key);
    }
    match Page::read(&idempotency, &query.filter(), query.after.clone()).await {
        Ok(page) => reply(
            &visit,
            StatusCode::OK,
            title(query.state),
            || ListJson::from(&page),
            || html::records(&visit, &query, &page),
        ),
        Err(error) if is_unsupported(&error) && query.after.is_some() => {
            let detail = "`after` is not a cursor of this store.";
            refuse(&visit, &Failure::bad_request(detail))
        }
        Err(error) => refuse(&visit, &Failure::of_store(&error, "")),
    }
}

fn title(state: Option<RecordStatus>) -> &'static str {
    match state {
        Some(RecordStatus::Abandoned) => "Abandoned records",
        Some(RecordStatus::InFlight) => "Records in flight",
        Some(RecordStatus::Completed) => "Completed records",
        None => "Records",
    }
}

/// Goes to a record whose key was typed in.
fn open(visit: &Visit, key: &str) -> Response {
    if let Some(prefix) = Prefix::read(key) {
        return redirect(visit, prefix.digits());
    }
    let Ok(key) = key.parse::<RecordKey>() else {
        let detail =
            "A record key is 64 hexadecimal digits, of which the first 4 or more are enough.";
        return refuse(visit, &Failure::bad_request(detail));
    };
    redirect(visit, &key.to_hex())
}
